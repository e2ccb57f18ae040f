package loader

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
)

// A Journal records what an attach changed on the host beside the BPF objects,
// so that any later command can undo it, and what it was asked for.
//
// The loader only keeps it. Who changes the host writes it, before the change.
type Journal struct {
	Addresses  []JournalAddress   `json:"addresses,omitempty"`  // that were added
	Sysctls    []JournalSysctl    `json:"sysctls,omitempty"`    // that were set
	Neighbours []JournalNeighbour `json:"neighbours,omitempty"` // that were installed
	Config     JournalConfig      `json:"config"`
	Interfaces []JournalInterface `json:"interfaces,omitempty"`
}

// A JournalAddress is an address that was added to an interface.
type JournalAddress struct {
	Interface string       `json:"interface"`
	Prefix    netip.Prefix `json:"prefix"`
}

// A JournalSysctl is a sysctl that was set, such as net.ipv4.ip_forward.
type JournalSysctl struct {
	Name string `json:"name"`
	Old  string `json:"old"` // to be restored
	New  string `json:"new"`
}

// A JournalNeighbour is a neighbour entry that was installed.
type JournalNeighbour struct {
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
}

// A JournalConfig is the configuration that was written into the maps last.
type JournalConfig struct {
	Path   string `json:"path,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// A JournalInterface is an interface as it was attached.
type JournalInterface struct {
	Name   string     `json:"name"`
	Mode   AttachMode `json:"mode"`
	Reason string     `json:"reason,omitempty"` // why not native
}

// ReadJournal returns what WriteJournal wrote last; the zero Journal if nothing.
func (m *Maps) ReadJournal() (Journal, error) {
	var j Journal
	b, err := m.Journal.LookupBytes(uint32(0))
	if err != nil {
		return j, fmt.Errorf("read journal: %w", err)
	}
	if b = bytes.TrimRight(b, "\x00"); len(b) == 0 {
		return j, nil
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return j, fmt.Errorf("read journal: %w", err)
	}
	return j, nil
}

// WriteJournal replaces the journal. A killed process has written all of it or
// nothing.
func (m *Maps) WriteJournal(j Journal) error {
	b, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if len(b) > JournalSize {
		return fmt.Errorf("write journal: %d bytes, at most %d fit", len(b), JournalSize)
	}
	if err := m.Journal.Put(uint32(0), append(b, make([]byte, JournalSize-len(b))...)); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// ReadServiceNames returns the names by row of services, "" for none.
func (m *Maps) ReadServiceNames() ([]string, error) {
	values := make([][NameSize]byte, m.ServiceNames.MaxEntries())
	if err := readArray(m.ServiceNames, values); err != nil {
		return nil, fmt.Errorf("read service names: %w", err)
	}
	all := make([]string, len(values))
	for i := range values {
		all[i] = string(bytes.TrimRight(values[i][:], "\x00"))
	}
	return all, nil
}

// WriteServiceName names a row of services. A name is cut after NameSize bytes.
func (m *Maps) WriteServiceName(row uint32, name string) error {
	var value [NameSize]byte
	copy(value[:], name)
	if err := m.ServiceNames.Put(row, value); err != nil {
		return fmt.Errorf("write name of service %d: %w", row, err)
	}
	return nil
}
