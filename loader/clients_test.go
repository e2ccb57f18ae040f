package loader

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// network returns the key of 10.b.0.0 with a prefix of n bits, of service 3.
func network(n uint32, b byte) ClientPrefix {
	return ClientPrefix{Len: 32 + n, Service: 3, Addr: binary.NativeEndian.Uint32([]byte{10, b, 0, 0})}
}

func (b *bench) wantClients(want map[ClientPrefix]uint32) {
	b.t.Helper()
	got, err := ReadHash[ClientPrefix, uint32](b.open().Maps().Clients)
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("clients (-want +got):\n%s", diff)
	}
}

func TestListsOfClientsGrow(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	b.wantClients(map[ClientPrefix]uint32{})
	want := map[ClientPrefix]uint32{{Len: 32, Service: 3}: uint32(LBClientRuleCLIENT_DENY)}
	for n := range uint32(8) {
		want[network(8+n, 0)] = uint32(LBClientRuleCLIENT_ALLOW)
		want[network(16+n, byte(n))] = n % 2
	}
	want[network(16, 0)] = uint32(LBClientRuleCLIENT_DENY)
	put := func(m *Maps) error {
		for k, v := range want {
			if err := m.Clients.Put(k, v); err != nil {
				return err
			}
		}
		return nil
	}
	o := two
	o.Sizes.Clients = uint32(len(want))
	o.Fill = put
	b.attach(o, nil)
	b.wantClients(want)
	o.Sizes.Clients, o.Fill = 40, nil
	r := b.attach(o, nil)
	if diff := cmp.Diff([]Growth{{LBMapClients, 32, 64}}, r.Grown); diff != "" {
		t.Errorf("grown (-want +got):\n%s", diff)
	}
	b.wantWhole()
	b.wantClients(want)
}

// TestUpgradeFromBeforeClientsWereListed upgrades what lacks the maps.
func TestUpgradeFromBeforeClientsWereListed(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	b.setCounter(3, 7)
	for _, name := range []string{LBMapClients, LBMapSources} {
		if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if r := b.attach(two, nil); r.Outcome != OutcomeUpgraded || r.Dropped != nil || r.Grown != nil {
		t.Errorf("report = %+v, want upgraded with all rows", r)
	}
	b.wantWhole()
	b.wantCounter(3, 7)
	b.wantClients(map[ClientPrefix]uint32{})
	if r := b.attach(two, nil); r.Outcome != OutcomeUnchanged {
		t.Errorf("afterwards: %+v, want unchanged", r)
	}
}
