/* Who is at an endpoint? */
#pragma once

#include "who.h"

/* The socket that is found at exactly this endpoint; the look-up also finds wildcard
 * ones. To be released. */
INLINE struct bpf_sock *socket_at(struct bpf_sock_addr *ctx, const struct address *at,
				  __be16 port)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size;
	if (is_mapped(at)) {
		tuple.ipv4.daddr = at->word[3];
		tuple.ipv4.dport = port;
		size = sizeof tuple.ipv4;
	} else {
		memcpy(tuple.ipv6.daddr, at->word, sizeof tuple.ipv6.daddr);
		tuple.ipv6.dport = port;
		size = sizeof tuple.ipv6;
	}
	struct bpf_sock *sk =
		ctx->protocol == IPPROTO_TCP ?
			bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0) :
			bpf_sk_lookup_udp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	bool exact;
	if (is_mapped(at)) {
		exact = sk->src_ip4 == at->word[3];
	} else {
		struct address found = { { sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2],
					   sk->src_ip6[3] } };
		/* By IPv6 only dual.h finds one that is bound to IPv4. */
		exact = same(&found, at) || is_mapped(&found);
	}
	if (exact)
		return sk;
	bpf_sk_release(sk);
	return 0;
}

/* Does the session have a socket there (`moved`: one of which the hook noted
 * all that)? */
INLINE bool session_at(struct bpf_sock_addr *ctx, const struct address *at, __be16 port,
		       const struct session *s, __u32 moved)
{
	if (unset(at))
		return false;
	struct bpf_sock *sk = socket_at(ctx, at, port);
	if (!sk)
		return false;
	struct bound *mark = bpf_sk_storage_get(&BOUND, sk, 0, 0);
	bool own = mark && mark->session == s->id && (mark->moved & moved) == moved;
	bpf_sk_release(sk);
	return own;
}

INLINE bool anybody_at(struct bpf_sock_addr *ctx, const struct address *at, __be16 port)
{
	struct bpf_sock *sk = socket_at(ctx, at, port);
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* Moved to an IPv4 address, and found by IPv6 as well: dual.h. */
INLINE bool has_other_places(const struct bound *mark)
{
	return mark && !unset(&mark->also[SESSION_LOOPBACK]);
}
