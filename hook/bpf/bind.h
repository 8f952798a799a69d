/* Which address does a bind get? The table of DESIGN.md, "The companion hook". */
#pragma once

#include "owner.h"

/* A cgroup program's verdict on a system call. */
enum { REFUSE = 0, ALLOW = 1 };

INLINE bool is_ipv4_wildcard(const struct address *a)
{
	return is_mapped(a) && !a->word[3];
}

/* Addresses of the pool belong to their session, whatever the program; root may
 * bind any. One that nobody holds is not on this host (yet), and IP_FREEBIND
 * must not lie in wait for it. Returns an errno, 0: nothing against it. */
INLINE int refusal(const struct config *c, const struct address *asked, const struct session *s)
{
	if (!(c->flags & SOURCES) || unset(asked) || is_ipv4_wildcard(asked))
		return 0;
	__u32 *holder = bpf_map_lookup_elem(&HOLDERS, asked);
	if (holder ? s && s->id == *holder : !in_pool(asked))
		return 0;
	if ((__u32)bpf_get_current_uid_gid() == 0)
		return 0;
	return holder ? EACCES : EADDRNOTAVAIL;
}

/* Where the session wants this address; unset: it is left alone. */
INLINE struct address place(struct bpf_sock_addr *ctx, const struct address *asked,
			    const struct session *s)
{
	struct address none = {};
	struct address ipv4 = s->ipv4 ? mapped(s->ipv4) : none;
	if (is_ipv4_wildcard(asked))
		return ipv4;
	if (unset(asked)) {
		if (!is_v6only(socket_of(ctx)))
			return ipv4;
		return unset(&s->ipv6) ? s->private6 : s->ipv6;
	}
	__u32 *host = bpf_map_lookup_elem(&HOST, asked);
	if (host && (*host & POOL_NIC))
		return is_mapped(asked) ? ipv4 : s->ipv6;
	return none;
}

INLINE bool is_own(const struct session *s, const struct address *a)
{
	if (is_mapped(a))
		return a->word[3] && a->word[3] == s->ipv4;
	return !unset(a) && (same(a, &s->ipv6) || same(a, &s->private6));
}

/* A listener of a session is marked, so that redirect.h knows it again. */
INLINE void mark_bound(struct bpf_sock_addr *ctx, const struct session *s, bool moved)
{
	struct bound mark = { s->id, moved };
	struct bound *kept =
		bpf_sk_storage_get(&BOUND, ctx->sk, &mark, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = mark;
}

/* A wildcard and port 0 collide with nobody, and may be on their way to
 * 127.0.0.1; an address and port 0 are a source, or what is told to a peer. */
INLINE bool names_source(const struct config *c, const struct address *asked, __be16 port)
{
	return port || ((c->flags & CONNECT) && !unset(asked) && !is_ipv4_wildcard(asked));
}

/* Makes `address` where the socket is to be bound, and returns the verdict. */
INLINE int decide(struct bpf_sock_addr *ctx, const struct config *c, struct address *address)
{
	__be16 port = ctx->user_port;
	__u16 protocol = ctx->protocol;
	struct session *s = session_of_caller();
	int errno = refusal(c, address, s);
	if (errno) {
		bpf_set_retval(-errno);
		count(REFUSED_BINDS);
		return REFUSE;
	}
	if (s && !port && is_own(s, address)) {
		/* What getsockname said, and any port: an FTP server's listener for
		 * data. Its client asks at the address by which it found the
		 * server, and that may be 127.0.0.1. */
		mark_bound(ctx, s, true);
		return ALLOW;
	}
	if (!s || !(c->flags & ENABLED) || !names_source(c, address, port) ||
	    (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return ALLOW;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct address given = place(ctx, address, s);
	if (!unset(&given)) {
		struct matched m = match_program(c);
		if (is_listed(c, &m) && !is_excluded(&m, protocol, port)) {
			if (port) {
				struct moved note = { .asked = *address, .given = given,
						      .session = s->id, .port = ntohs(port),
						      .protocol = protocol };
				bpf_map_update_elem(&MOVED, &cookie, &note, BPF_ANY);
			}
			mark_bound(ctx, s, true);
			count(MOVED_BINDS);
			*address = given;
			return ALLOW;
		}
	}
	bpf_map_delete_elem(&MOVED, &cookie);
	if (is_own(s, address))
		mark_bound(ctx, s, false);
	return ALLOW;
}

SEC("cgroup/bind4") int bind4(struct bpf_sock_addr *ctx)
{
	const struct config *c = config_in(bpf_get_netns_cookie(ctx));
	if (!c)
		return ALLOW;
	takes_over(ctx, c);
	struct address address = mapped(ctx->user_ip4);
	int verdict = decide(ctx, c, &address);
	if (verdict == ALLOW)
		ctx->user_ip4 = address.word[3];
	return verdict;
}

SEC("cgroup/bind6") int bind6(struct bpf_sock_addr *ctx)
{
	const struct config *c = config_in(bpf_get_netns_cookie(ctx));
	if (!c)
		return ALLOW;
	takes_over(ctx, c);
	struct address address = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
				     ctx->user_ip6[3] } };
	int verdict = decide(ctx, c, &address);
	if (verdict == ALLOW) {
		ctx->user_ip6[0] = address.word[0];
		ctx->user_ip6[1] = address.word[1];
		ctx->user_ip6[2] = address.word[2];
		ctx->user_ip6[3] = address.word[3];
	}
	return verdict;
}
