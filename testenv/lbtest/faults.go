package lbtest

// A Fault is a mistake that the test build of the C can make: FAULT(N, …).
type Fault struct {
	N    uint32
	Text string
}

// Faults are all that there are. Tests must find each.
var Faults = []Fault{
	{1, "an age before zero counts as an old one"},
	{2, "the agent's loss helps no backend"},
	{3, "a VLAN tag to a service address is not seen"},
	{4, "a packet may be one byte longer than its frame"},
	{5, "IP options are not seen"},
	{6, "fragments are not seen"},
	{7, "the UDP length may be beyond the packet"},
	{8, "the TCP header may end one word beyond the packet"},
	{9, "a flow of another era counts"},
	{10, "a flow counts for ever"},
	{11, "a checksum is folded once too few"},
	{12, "replies are counted as forward packets"},
	{13, "a service's bytes lack the IP header"},
	{14, "a backend's packets are not counted"},
	{15, "a service's new flows are not counted"},
	{16, "a backend's new flows are counted twice"},
	{17, "drops are not counted"},
	{18, "a device that XDP cannot use is no route"},
	{19, "both entries of a flow have one direction"},
	{20, "a flow has no twin"},
	{21, "a twin is made over whatever is there"},
	{22, "the second of the reply limit never ends"},
	{23, "the reply limit is one too high"},
	{24, "padding is taken for payload"},
	{25, "a reset takes the wrong sequence number"},
	{26, "a reset does not acknowledge the SYN"},
	{27, "a FIN changes nothing"},
	{28, "a twin does not learn of its flow's state"},
	{29, "a UDP checksum that says none is changed"},
	{30, "a UDP checksum may become none"},
	{31, "the TTL is not decreased"},
	{32, "a service that took another's row passes for it"},
	{33, "a backend that took another's row passes for it"},
	{34, "flows of a backend that is down never go on"},
	{35, "a reset answers a reset"},
	{36, "a check does not touch the twin"},
	{37, "a change of configuration is not noticed"},
	{38, "a flow is not checked every second"},
	{39, "a packet with TTL 1 is forwarded"},
	{40, "a SYN does not reopen a closed flow"},
	{41, "a loopback source makes a flow"},
	{42, "a multicast source makes a flow"},
	{43, "new flows are made while draining"},
	{44, "flows of the standby proxy are taken from it"},
	{45, "a run of slots is one too long"},
	{46, "a live flow's tuple is taken from it"},
	{47, "a lost race counts as a flow"},
	{48, "a backend's port has the wrong byte order"},
}
