/* How is a dual-stack listener, which the hook has moved to an IPv4 address,
 * found by IPv6?
 *
 * It is one socket, and can be bound to one address. So what comes in for its
 * session's IPv6 addresses is led to it where the kernel looks for a socket:
 * sk_lookup takes it out of DUAL. A TCP listener is put there as it begins to
 * listen. No program that sees a UDP socket being bound may put it there; so
 * the daemon is told, and runs find_dual_udp over all UDP sockets. Whoever
 * closes takes his socket out, without our doing.
 *
 * What was moved by a hook that is gone has no mark any more, and what was moved
 * before its session had an IPv6 address has none of that. Such sockets the daemon
 * puts into TO_MARK, and runs mark_tcp and find_dual_udp over all there are, and
 * lead_to_tcp for each listener: an iterator over TCP sockets may hold their locks,
 * which putting one into DUAL takes.
 */
#pragma once

#include "bind.h"

/* The kernel's context of an iterator (DEFINE_BPF_ITER_FUNC in net/ipv4/udp.c). */
struct udp_sock;
struct udp_iteration {
	void *meta;
	struct udp_sock *udp_sk;
};
/* The same in net/ipv4/tcp_ipv4.c. */
struct tcp_iteration {
	void *meta;
	struct sock_common *sk_common;
};

/* The length of an Ethernet header. */
enum { ETH_HLEN = 14 };

/* Has a socket found by IPv6. `ops`: the call that tells of it as it begins to
 * listen, which may not put it there by itself; 0: `sk` is put there. The kernel
 * refuses some, such as those of Multipath TCP. */
INLINE void lead_to(struct bpf_sock_ops *ops, void *sk, const struct bound *mark, __u16 protocol)
{
	for (int i = 0; i < OTHER_PLACES; i++) {
		struct place key = { mark->also[i], mark->port, protocol };
		if (unset(&key.address))
			continue;
		count_full(FULL_DUAL, sk ? bpf_map_update_elem(&DUAL, &key, sk, BPF_ANY) :
					   bpf_sock_hash_update(ops, &DUAL, &key, BPF_ANY));
	}
}

SEC("sockops") int listens(struct bpf_sock_ops *ops)
{
	if (ops->op != BPF_SOCK_OPS_TCP_LISTEN_CB || ops->family != AF_INET6 ||
	    !config_in(bpf_get_netns_cookie(ops)))
		return 1;
	struct bpf_sock *sk = ops->sk;
	if (!sk)
		return 1;
	struct bound *mark = bpf_sk_storage_get(&BOUND, sk, 0, 0);
	if (has_other_places(mark))
		lead_to(ops, 0, mark, IPPROTO_TCP);
	return 1;
}

SEC("cgroup/post_bind6") int bound6(struct bpf_sock *sk)
{
	if (sk->protocol != IPPROTO_UDP || !config_in(bpf_get_netns_cookie(sk)))
		return 1;
	if (has_other_places(bpf_sk_storage_get(&BOUND, sk, 0, 0))) {
		__u64 cookie = bpf_get_socket_cookie(sk);
		bpf_ringbuf_output(&NEW_DUAL, &cookie, sizeof cookie, BPF_RB_FORCE_WAKEUP);
	}
	return 1;
}

INLINE void mark_again(void *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct bound *found = bpf_map_lookup_elem(&TO_MARK, &cookie);
	if (!found)
		return;
	struct bound *mark = bpf_sk_storage_get(&BOUND, sk, 0, 0);
	if (mark && (mark->moved || !(found->moved & REPLACES))) {
		if (has_other_places(mark))
			mark->also[VIRTUAL_ADDRESS] = found->also[VIRTUAL_ADDRESS];
		return;
	}
	mark = bpf_sk_storage_get(&BOUND, sk, found, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mark)
		return;
	*mark = *found;
	mark->moved &= ~REPLACES;
}

SEC("iter/tcp") int mark_tcp(struct tcp_iteration *at)
{
	if (at->sk_common)
		mark_again(at->sk_common);
	return 0;
}

/* What it is given is no packet but, after an Ethernet header, where a listener is
 * bound. */
SEC("classifier") int lead_to_tcp(struct __sk_buff *skb)
{
	struct place at = {};
	struct bpf_sock_tuple tuple = {};
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &at, sizeof at))
		return 0;
	tuple.ipv4.daddr = at.address.word[3];
	tuple.ipv4.dport = htons(at.port);
	struct bpf_sock *sk =
		bpf_sk_lookup_tcp(skb, &tuple, sizeof tuple.ipv4, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	struct bound *mark = bpf_sk_storage_get(&BOUND, sk, 0, 0);
	if (has_other_places(mark))
		lead_to(0, sk, mark, IPPROTO_TCP);
	bpf_sk_release(sk);
	return 0;
}

SEC("iter/udp") int find_dual_udp(struct udp_iteration *at)
{
	struct udp_sock *sk = at->udp_sk;
	if (!sk)
		return 0;
	mark_again(sk);
	struct bound *mark = bpf_sk_storage_get(&BOUND, (void *)sk, 0, 0);
	if (has_other_places(mark))
		lead_to(0, sk, mark, IPPROTO_UDP);
	return 0;
}

/* The kernel refuses one that is connected by now, and goes on looking. */
SEC("sk_lookup") int find_dual(struct bpf_sk_lookup *ctx)
{
	if (ctx->family != AF_INET6)
		return SK_PASS;
	struct place key = { { { ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
				 ctx->local_ip6[3] } },
			     ctx->local_port,
			     ctx->protocol };
	struct bpf_sock *sk = bpf_map_lookup_elem(&DUAL, &key);
	if (sk) {
		bpf_sk_assign(ctx, sk, 0);
		bpf_sk_release(sk);
	}
	return SK_PASS;
}
