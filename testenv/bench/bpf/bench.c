//go:build ignore
/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * bench.c - the datapath and what it is compared with, as programs that can be
 * run again and again on one packet.
 *
 * BPF_PROG_TEST_RUN gives a program the packet as the last run left it, so each
 * one writes the headers first. What that costs is measured too.
 */
struct xdp_md;
/* A call would be measured with it. */
__attribute__((always_inline)) int fairlead(struct xdp_md *ctx);
__attribute__((always_inline)) int fairlead_both(struct xdp_md *ctx);

#include "../../../bpf/lb.c"

enum {
	TABLE_SIZE = 262144, /* as the flow table's, unless configured */
	NEW_NET = 0xc6120000, /* 198.18.0.0/15, whence new flows come */
	ADDRESS_BITS = 17,
	ADDRESS_MASK = (1 << ADDRESS_BITS) - 1,
};

enum {
	IP = ETH_HLEN, /* offsets in the packet */
	L4 = IP + sizeof(struct iphdr),
	HEADERS = L4 + sizeof(struct tcphdr),
	ADDRS6 = IP + 8,
	L4_6 = ADDRS6 + 32,
	HEADERS6 = L4_6 + sizeof(struct tcphdr),
};

__u8 template[HEADERS6]; /* what each run begins with: a packet of either family */
__u64 made; /* new flows so far */
__u32 out; /* interface to redirect to */

/* table: what one look-up finds. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, __u32);
	__uint(max_entries, TABLE_SIZE);
} table SEC(".maps");

/* arrived: frames that sink has seen. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} arrived SEC(".maps");

/* headers_of returns the packet's headers of so many bytes, or NULL if it is too short. */
static __always_inline void *headers_of(struct xdp_md *ctx, const __u32 len)
{
	void *data = (void *)(long)ctx->data;

	return data + len > (void *)(long)ctx->data_end ? NULL : data;
}

/* copy_words copies n bytes, a constant, four by four. */
static __always_inline void copy_words(void *to, const void *from, const __u32 n)
{
	__builtin_memcpy(__builtin_assume_aligned(to, 4), __builtin_assume_aligned(from, 4), n);
}

/*
 * restore writes the template in pieces as large as those that are read later:
 * a load that spans two stores waits for both, as it never does for a packet
 * that a network card wrote.
 */
static __always_inline void *restore(struct xdp_md *ctx)
{
	void *data = headers_of(ctx, HEADERS);

	if (!data)
		return NULL;
	copy_words(data, template, 12);
	((struct ethhdr *)data)->h_proto = bpf_htons(ETH_P_IP);
	copy_words(data + IP, template + IP, HEADERS - IP);
	barrier(); /* what comes next reads the packet */
	return data;
}

/* restore6 is restore for IPv6, whose addresses are read by halves. */
static __always_inline void *restore6(struct xdp_md *ctx)
{
	void *data = headers_of(ctx, HEADERS6);

	if (!data)
		return NULL;
	copy_words(data, template, 12);
	((struct ethhdr *)data)->h_proto = bpf_htons(ETH_P_IPV6);
	copy_words(data + IP, template + IP, ADDRS6 - IP);
	__builtin_memcpy(__builtin_assume_aligned(data + ADDRS6, 8),
			 __builtin_assume_aligned(template + ADDRS6, 8), L4_6 - ADDRS6);
	copy_words(data + L4_6, template + L4_6, HEADERS6 - L4_6);
	barrier();
	return data;
}

/* look_up returns the entry of the packet's tuple in table. */
static __always_inline __u32 *look_up(void *data)
{
	struct iphdr *ip = data + IP;
	struct flow_key key = {.proto = ip->protocol};

	copy_words(&key.saddr, &ip->saddr, 8);
	copy_words(&key.sport, ip + 1, 4);
	return bpf_map_lookup_elem(&table, &key);
}

/* swap makes the packet's sender its receiver. */
static __always_inline void swap(__u16 *mac)
{
	for (int i = 0; i < 3; i++) {
		__u16 dest = mac[i];

		mac[i] = mac[i + 3];
		mac[i + 3] = dest;
	}
}

SEC("xdp.frags")
int run_empty(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

SEC("xdp.frags")
int run_restore(struct xdp_md *ctx)
{
	return restore(ctx) ? XDP_TX : XDP_ABORTED;
}

SEC("xdp.frags")
int run_swap(struct xdp_md *ctx)
{
	void *data = restore(ctx);

	if (!data)
		return XDP_ABORTED;
	swap(data);
	return XDP_TX;
}

SEC("xdp.frags")
int run_lookup(struct xdp_md *ctx)
{
	void *data = restore(ctx);
	__u32 *action;

	if (!data)
		return XDP_ABORTED;
	action = look_up(data);
	return action ? (int)*action : XDP_ABORTED;
}

/* run_forward is the least that forwards a packet by a table. */
SEC("xdp.frags")
int run_forward(struct xdp_md *ctx)
{
	void *data = restore(ctx);
	__u32 *to;

	if (!data)
		return XDP_ABORTED;
	to = look_up(data);
	if (!to)
		return XDP_ABORTED;
	swap(data);
	return bpf_redirect(*to, 0);
}

SEC("xdp.frags")
int run_hit(struct xdp_md *ctx)
{
	return restore(ctx) ? fairlead(ctx) : XDP_ABORTED;
}

SEC("xdp.frags")
int run_hit_both(struct xdp_md *ctx)
{
	return restore(ctx) ? fairlead_both(ctx) : XDP_ABORTED;
}

SEC("xdp.frags")
int run_restore6(struct xdp_md *ctx)
{
	return restore6(ctx) ? XDP_TX : XDP_ABORTED;
}

/* run_hit6 goes on in the instance's own program for IPv6. */
SEC("xdp.frags")
int run_hit6(struct xdp_md *ctx)
{
	return restore6(ctx) ? fairlead_both(ctx) : XDP_ABORTED;
}

SEC("xdp.frags")
int run_new(struct xdp_md *ctx)
{
	void *data = restore(ctx);
	__u64 n = made++;

	if (!data)
		return XDP_ABORTED;
	((struct iphdr *)(data + IP))->saddr = bpf_htonl(NEW_NET | (n & ADDRESS_MASK));
	((struct tcphdr *)(data + L4))->source = bpf_htons(1024 + (n >> ADDRESS_BITS));
	return fairlead(ctx);
}

SEC("xdp.frags")
int redirect(struct xdp_md *ctx)
{
	(void)ctx;
	return bpf_redirect(out, 0);
}

SEC("xdp.frags")
int lookup_redirect(struct xdp_md *ctx)
{
	void *data = headers_of(ctx, HEADERS);
	__u32 *to;

	if (!data)
		return XDP_ABORTED;
	to = look_up(data);
	return to ? bpf_redirect(*to, 0) : XDP_ABORTED;
}

SEC("xdp.frags")
int sink(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&arrived, &zero);

	(void)ctx;
	if (n)
		(*n)++;
	return XDP_DROP;
}
