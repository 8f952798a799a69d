/* Whose ping is this? (X2) A raw socket has no port by which the daemon could ask
 * for it, and two sessions may use the same id towards the same target.
 */
#pragma once

#include "owner.h"
#include "packet.h"

/* Lengths of the IPv4 header are in words; an IPv6 header is as long as this. */
enum { IPV4_WORDS = 15, IPV6_HEADER = 40 };

/* Echo requests, and the errors that may be about one. */
enum { IPV4_ECHO = 8, IPV6_ECHO = 128 };
enum { ICMP_HEADER = 8, IPPROTO_ICMP = 1, IPPROTO_ICMPV6 = 58 };

/* Where what an IP header at `at` carries begins; 0: it cannot be read. */
INLINE __u32 carried(struct __sk_buff *skb, __u32 at, __u8 *protocol)
{
	__u8 first = 0;
	bool ipv4 = skb->protocol == htons(ETH_P_IP);
	if (bpf_skb_load_bytes(skb, at, &first, 1) ||
	    bpf_skb_load_bytes(skb, at + (ipv4 ? IPV4_PROTOCOL : IPV6_NEXT_HEADER), protocol, 1))
		return 0;
	return at + (ipv4 ? (first & IPV4_WORDS) * 4 : IPV6_HEADER);
}

/* Is this an error about a ping? Run by a rule that leads it past conntrack as
 * it is, which knows pings by their addresses on the wire. */
SEC("socket") int ping_error(struct __sk_buff *skb)
{
	__u8 protocol = 0, type = 0;
	bool ipv4 = skb->protocol == htons(ETH_P_IP);
	__u32 at = carried(skb, 0, &protocol);
	if (!at || bpf_skb_load_bytes(skb, at, &type, 1))
		return 0;
	if (ipv4 ? type != 3 && type != 4 && type != 5 && type != 11 && type != 12 : type > 4)
		return 0;
	at = carried(skb, at + ICMP_HEADER, &protocol);
	if (!at || protocol != (ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) ||
	    bpf_skb_load_bytes(skb, at, &type, 1))
		return 0;
	return type == (ipv4 ? IPV4_ECHO : IPV6_ECHO);
}

/* Run by a rule of ours (xt_bpf), in the sender's own call and before the packet
 * is queued: whoever gets it from the queue finds the note. */
SEC("socket") int ping(struct __sk_buff *skb)
{
	struct ping note = {};
	__u8 protocol = 0;
	if (!read_address(skb, IPV4_SOURCE, IPV6_SOURCE, &note.source) ||
	    !read_address(skb, IPV4_DESTINATION, IPV6_DESTINATION, &note.destination))
		return PASS;
	__u32 at = carried(skb, 0, &protocol);
	if (!at || bpf_skb_load_bytes(skb, at, note.header, sizeof note.header))
		return PASS;
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct owner *known = bpf_map_lookup_elem(&OWNERS, &cookie);
	if (known) {
		note.owner = *known;
	} else {
		/* Older than the hook: the session is known all the same. */
		struct sk_buff *packet = (void *)skb;
		struct sock *sk = 0;
		READ(sk, packet->sk);
		if (sk)
			note.owner.cgroup = cgroup_of(sk);
	}
	if (bpf_ringbuf_output(&PINGS, &note, sizeof note, BPF_RB_NO_WAKEUP))
		count(LOST_EVENTS);
	return PASS;
}
