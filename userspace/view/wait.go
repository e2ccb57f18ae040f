package view

// A Wait is why a backend that is up gets no new flows; "" if it gets some.
type Wait string

// The reasons.
const (
	WaitLeaving  Wait = "leaving"  // the configuration has it no more
	WaitDraining Wait = "draining" // its weight is 0
	WaitBackup   Wait = "backup"   // others can serve
	WaitZone     Wait = "zone"     // those of other zones can; it may be in none
)

// Wait says why b gets no new flows, as far as that is not for its health.
func (b *Backend) Wait() Wait {
	switch {
	case b.Drains != nil:
		return WaitLeaving
	case b.Weight == 0:
		return WaitDraining
	case b.Serves:
		return ""
	case b.Backup:
		return WaitBackup
	}
	return WaitZone
}

// Words says it of a backend in a zone, "" for none.
func (w Wait) Words(zone string) string {
	switch {
	case w == WaitLeaving:
		return "draining: the configuration has it no more"
	case w == WaitDraining:
		return "draining: its weight is 0"
	case w == WaitBackup:
		return "waits as backup"
	case w == WaitZone && zone == "":
		return "waits: it is in no zone"
	case w == WaitZone:
		return "waits in zone " + zone
	}
	return ""
}
