/* May this packet leave from, or arrive at, that virtual address? Rows O5, O6
 * and I5 of DESIGN.md, for packets that are never diverted too. */
#pragma once

#include "who.h"

enum { DROP = 0, PASS = 1 };

/* Offsets of the IPv4 (RFC 791) and IPv6 (RFC 8200) headers. */
enum { IPV4_PROTOCOL = 9, IPV4_SOURCE = 12, IPV4_DESTINATION = 16 };
enum { IPV6_NEXT_HEADER = 6, IPV6_SOURCE = 8, IPV6_DESTINATION = 24, IPV6_LENGTH = 40 };
enum { ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd };

INLINE bool read_address(struct __sk_buff *skb, __u32 ipv4_offset, __u32 ipv6_offset,
			 struct address *to)
{
	if (skb->protocol == htons(ETH_P_IP)) {
		*to = mapped(0);
		return !bpf_skb_load_bytes(skb, ipv4_offset, &to->word[3], 4);
	}
	return skb->protocol == htons(ETH_P_IPV6) &&
	       !bpf_skb_load_bytes(skb, ipv6_offset, to->word, 16);
}

INLINE bool is_tcp(struct __sk_buff *skb)
{
	__u8 protocol = 0;
	bpf_skb_load_bytes(skb,
			   skb->protocol == htons(ETH_P_IP) ? IPV4_PROTOCOL : IPV6_NEXT_HEADER,
			   &protocol, 1);
	return protocol == IPPROTO_TCP;
}

/* bpf_get_netns_cookie() answers for packets only since 6.13. */
INLINE const struct config *config_of_packet(struct __sk_buff *skb)
{
	struct sk_buff *packet = (void *)skb;
	struct sock *sk = 0;
	struct net *net = 0;
	__u64 cookie = 0;
	READ(sk, packet->sk);
	if (sk)
		READ(net, sk->__sk_common.skc_net.net);
	if (net)
		READ(cookie, net->net_cookie);
	return net ? config_in(cookie) : 0;
}

/* Accounts that services run under: below the first login uid, systemd's
 * dynamic users, and nobody. */
INLINE bool is_service(__u32 uid)
{
	return uid < 1000 || (uid >= 61184 && uid <= 65519) || uid == 65534;
}

/* 127.0.0.0/8 but 127.0.0.1, which is nobody's alone. */
INLINE bool may_be_session_loopback(const struct address *a)
{
	return is_mapped(a) && (a->word[3] & htonl(0xff000000)) == htonl(0x7f000000) &&
	       a->word[3] != htonl(0x7f000001);
}

/* fd73:6970::/64, where sessions have their private IPv6 addresses. */
INLINE bool is_private6(const struct address *a)
{
	return a->word[0] == htonl(0xfd736970) && !a->word[1];
}

/* O5. A host service outside any session answers from V when V was asked (row
 * I4): by TCP it has V only from accept, for bind refuses it; by UDP a service
 * account is believed, and a person's process outside any session is not. */
SEC("cgroup_skb/egress") int egress(struct __sk_buff *skb)
{
	struct address source;
	if (!read_address(skb, IPV4_SOURCE, IPV6_SOURCE, &source))
		return PASS;
	bool loopback = may_be_session_loopback(&source);
	if (!loopback && !in_pool(&source))
		return PASS;
	const struct config *c = config_of_packet(skb);
	if (!c || !(c->flags & SOURCES))
		return PASS;
	struct session *s = session_of_packet(skb);
	__u32 *holder = bpf_map_lookup_elem(&HOLDERS, &source);
	if (s && holder && *holder == s->id)
		return PASS;
	/* Most of 127.0.0.0/8 is everybody's. */
	if (loopback && !(s && holder))
		return PASS;
	__u32 uid = bpf_get_socket_uid(skb);
	if (uid == 0 || (!s && (is_service(uid) || is_tcp(skb))))
		return PASS;
	count(FOREIGN_SOURCE);
	return DROP;
}

/* I5. Sockets outside any session are the host's own services. */
SEC("cgroup_skb/ingress") int ingress(struct __sk_buff *skb)
{
	struct address destination;
	if (!read_address(skb, IPV4_DESTINATION, IPV6_DESTINATION, &destination))
		return PASS;
	/* What is there is O6's. */
	if (may_be_session_loopback(&destination))
		return PASS;
	__u32 *holder = bpf_map_lookup_elem(&HOLDERS, &destination);
	if (!holder)
		return PASS;
	const struct config *c = config_of_packet(skb);
	if (!c || !(c->flags & LISTENERS))
		return PASS;
	struct session *s = session_of_packet(skb);
	if (!s || s->id == *holder || bpf_get_socket_uid(skb) == 0)
		return PASS;
	count(FOREIGN_LISTENER);
	return DROP;
}

/* Is the socket that would take this packet bound there by the session? */
INLINE bool bound_there_by(struct __sk_buff *skb, __u32 session)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size;
	__u8 protocol = 0, first = 0;
	if (skb->protocol == htons(ETH_P_IP)) {
		bpf_skb_load_bytes(skb, 0, &first, 1);
		bpf_skb_load_bytes(skb, IPV4_PROTOCOL, &protocol, 1);
		bpf_skb_load_bytes(skb, IPV4_SOURCE, &tuple.ipv4.saddr, 8);
		/* The header's length in words (RFC 791), then both ports. */
		bpf_skb_load_bytes(skb, (first & 15) * 4, &tuple.ipv4.sport, 4);
		size = sizeof tuple.ipv4;
	} else {
		bpf_skb_load_bytes(skb, IPV6_NEXT_HEADER, &protocol, 1);
		bpf_skb_load_bytes(skb, IPV6_SOURCE, &tuple.ipv6.saddr, 32);
		bpf_skb_load_bytes(skb, IPV6_LENGTH, &tuple.ipv6.sport, 4);
		size = sizeof tuple.ipv6;
	}
	struct bpf_sock *sk = 0;
	if (protocol == IPPROTO_TCP)
		sk = bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else if (protocol == IPPROTO_UDP)
		sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	struct bound *mark = bpf_sk_storage_get(&BOUND, sk, 0, 0);
	bool there = mark && mark->session == session;
	bpf_sk_release(sk);
	return there;
}

/* O6. What a session has bound at its loopback, IPv6's too, is its own. Attached
 * only where `[loopback]` is on. */
SEC("cgroup_skb/egress") int egress_loopback(struct __sk_buff *skb)
{
	struct address destination;
	if (!read_address(skb, IPV4_DESTINATION, IPV6_DESTINATION, &destination) ||
	    !(may_be_session_loopback(&destination) || is_private6(&destination)))
		return PASS;
	__u32 *holder = bpf_map_lookup_elem(&HOLDERS, &destination);
	if (!holder)
		return PASS;
	const struct config *c = config_of_packet(skb);
	if (!c || !(c->flags & ISOLATE_LOOPBACK))
		return PASS;
	struct session *s = session_of_packet(skb);
	if (!s || s->id == *holder || bpf_get_socket_uid(skb) == 0 ||
	    !bound_there_by(skb, *holder))
		return PASS;
	count(FOREIGN_LOOPBACK);
	return DROP;
}
