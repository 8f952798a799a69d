/* Whose ping is this? (X2) A raw socket has no port by which the daemon could ask
 * for it, and two sessions may use the same id towards the same target.
 */
#pragma once

#include "owner.h"
#include "packet.h"

/* Lengths of the IPv4 header are in words; an IPv6 header is as long as this. */
enum { IPV4_WORDS = 15, IPV6_HEADER = 40 };

/* Run by a rule of ours (xt_bpf), in the sender's own call and before the packet
 * is queued: whoever gets it from the queue finds the note. */
SEC("socket") int ping(struct __sk_buff *skb)
{
	struct ping note = {};
	__u8 first = 0;
	if (!read_address(skb, IPV4_SOURCE, IPV6_SOURCE, &note.source) ||
	    !read_address(skb, IPV4_DESTINATION, IPV6_DESTINATION, &note.destination) ||
	    bpf_skb_load_bytes(skb, 0, &first, 1))
		return PASS;
	__u32 at = IPV6_HEADER;
	if (skb->protocol == htons(ETH_P_IP))
		at = (first & IPV4_WORDS) * 4;
	if (bpf_skb_load_bytes(skb, at, note.header, sizeof note.header))
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
