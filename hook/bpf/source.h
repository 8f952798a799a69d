/* Which source does a conversation with another host get? [hook] scope =
 * "connect". Wherever something is uncertain the kernel chooses, and the packet
 * engine rewrites what leaves, as it does without this file. */
#pragma once

#include "bind.h"

/* The daemon has read the routes: this host's own addresses, multicast,
 * broadcast and what goes by another NIC or a tunnel do not lead there. */
INLINE bool leads_over_pool_nic(const struct address *target)
{
	struct prefix key = { .length = 128, .address = *target };
	__u32 *way = bpf_map_lookup_elem(&ROUTES, &key);
	return way && *way == OVER_POOL_NIC;
}

/* A socket that was passed on keeps its session: from another one's address its
 * packets would be dropped. */
INLINE bool is_of_session(struct bpf_sock_addr *ctx, const struct session *s)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct owner *o = bpf_map_lookup_elem(&OWNERS, &cookie);
	if (!o)
		return false;
	return o->session ? o->session == s->id : o->cgroup == bpf_get_current_cgroup_id();
}

INLINE bool is_left_port(const struct matched *m, __u16 protocol, __u16 port)
{
	struct exclusion key = { .program = LEFT_PORTS, .port = port, .protocol = protocol };
	return port && (bpf_map_lookup_elem(&EXCLUDED, &key) ||
			is_excluded(m, protocol, htons(port)));
}

/* The source for what goes to `target`, which is no address of this host;
 * unset: the kernel chooses. */
INLINE struct address source_for(struct bpf_sock_addr *ctx, const struct config *c,
				 const struct address *target, const struct address *own,
				 const struct session *s)
{
	struct address none = {};
	if (!(c->flags & CONNECT) || unset(own) || !leads_over_pool_nic(target))
		return none;
	struct bpf_sock *sk = ctx->sk;
	/* SO_BINDTODEVICE, and sockets of a VRF: their routes are their own. */
	if (sk->bound_dev_if || !is_of_session(ctx, s))
		return none;
	struct matched m = match_program(c);
	if (!is_listed(c, &m) || is_left_port(&m, ctx->protocol, sk->src_port))
		return none;
	return *own;
}

/* From now on getsockname tells this source; unset: what the kernel says. */
INLINE void tell_source(struct bpf_sock_addr *ctx, const struct address *source)
{
	struct told note = { *source };
	struct told *kept = bpf_sk_storage_get(
		&TOLD, ctx->sk, 0, unset(source) ? 0 : BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = note;
}

/* What to tell instead of `local`, an address that the kernel gave. */
INLINE struct told *told_for(struct bpf_sock_addr *ctx, const struct address *local)
{
	struct told *kept = bpf_sk_storage_get(&TOLD, ctx->sk, 0, 0);
	if (!kept || unset(&kept->source))
		return 0;
	__u32 *host = bpf_map_lookup_elem(&HOST, local);
	return host && (*host & POOL_NIC) ? kept : 0;
}

SEC("cgroup/getsockname4") int getsockname4(struct bpf_sock_addr *ctx)
{
	struct address local = mapped(ctx->user_ip4);
	struct told *told = told_for(ctx, &local);
	if (told)
		ctx->user_ip4 = told->source.word[3];
	return ALLOW;
}

SEC("cgroup/getsockname6") int getsockname6(struct bpf_sock_addr *ctx)
{
	struct address local = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
				   ctx->user_ip6[3] } };
	struct told *told = told_for(ctx, &local);
	if (told) {
		ctx->user_ip6[0] = told->source.word[0];
		ctx->user_ip6[1] = told->source.word[1];
		ctx->user_ip6[2] = told->source.word[2];
		ctx->user_ip6[3] = told->source.word[3];
	}
	return ALLOW;
}
