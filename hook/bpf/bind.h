/* Which address does a bind get? The table of DESIGN.md, "The companion hook". */
#pragma once

#include "find.h"
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

INLINE bool is_localhost4(const struct address *a)
{
	return is_mapped(a) && a->word[3] == htonl(0x7f000001);
}

INLINE bool is_localhost6(const struct address *a)
{
	return !(a->word[0] | a->word[1] | a->word[2]) && a->word[3] == htonl(1);
}

/* Where the session wants this program's socket; unset: it is left alone. The
 * private IPv6 address is its IPv6 loopback, too. */
INLINE struct address place(struct bpf_sock_addr *ctx, const struct config *c,
			    const struct address *asked, const struct session *s,
			    const struct matched *m)
{
	struct address none = {};
	if (is_localhost4(asked))
		return s->loopback && has_own_loopback(c, m) ? mapped(s->loopback) : none;
	if (is_localhost6(asked))
		return has_own_loopback(c, m) ? s->private6 : none;
	if (!(c->flags & ENABLED) || !is_listed(c, m))
		return none;
	bool prefers = (c->flags & LOOPBACK) && (m->flags & PREFERRED);
	struct address ipv4 = s->ipv4 ? mapped(s->ipv4) : none;
	if (unset(asked) && is_v6only(socket_of(ctx)))
		return unset(&s->ipv6) || (prefers && !unset(&s->private6)) ? s->private6 :
									       s->ipv6;
	if (unset(asked) || is_ipv4_wildcard(asked)) {
		if (prefers && s->loopback)
			return mapped(s->loopback);
		return s->ipv4 || !unset(asked) ? ipv4 : s->ipv6;
	}
	__u32 *host = bpf_map_lookup_elem(&HOST, asked);
	if (host && (*host & POOL_NIC))
		return is_mapped(asked) ? ipv4 : s->ipv6;
	return none;
}

INLINE bool is_own(const struct session *s, const struct address *a)
{
	if (is_mapped(a))
		return a->word[3] && (a->word[3] == s->ipv4 || a->word[3] == s->loopback);
	return !unset(a) && (same(a, &s->ipv6) || same(a, &s->private6));
}

/* A listener of a session is marked, so that redirect.h knows it again. */
INLINE void mark_bound(struct bpf_sock_addr *ctx, const struct session *s, __u32 moved)
{
	struct bound mark = { .session = s->id, .moved = moved };
	struct bound *kept =
		bpf_sk_storage_get(&BOUND, ctx->sk, &mark, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = mark;
}

/* The socket can speak IPv6, and was moved to an IPv4 address: dual.h has it
 * found by IPv6. At V6 what is at V; at the session's private address, which is
 * its ::1, whatever it is. */
INLINE void mark_dual(struct bpf_sock_addr *ctx, const struct session *s,
		      const struct address *given)
{
	struct bound *mark = bpf_sk_storage_get(&BOUND, ctx->sk, 0, 0);
	if (!mark)
		return;
	if (given->word[3] == s->ipv4)
		mark->also[VIRTUAL_ADDRESS] = s->ipv6;
	mark->also[SESSION_LOOPBACK] = s->private6;
	mark->port = ntohs(ctx->user_port);
	mark->protocol = ctx->protocol;
}

/* A wildcard or localhost and port 0 collide with nobody, and may be on their
 * way to 127.0.0.1; an address and port 0 are a source, or what is told to a
 * peer. */
INLINE bool names_source(const struct config *c, const struct address *asked, __be16 port)
{
	return port || ((c->flags & CONNECT) && !unset(asked) && !is_ipv4_wildcard(asked) &&
			!is_localhost4(asked) && !is_localhost6(asked));
}

/* A port that the kernel gave a program of the session at 127.0.0.1 or ::1 is taken
 * for the session, as it is without us, and not free at its own loopback: who asks
 * for it is for the kernel to judge (SO_REUSEPORT). A TCP socket that does not listen
 * cannot be found. */
INLINE bool is_given(struct bpf_sock_addr *ctx, const struct address *asked,
		     const struct session *s)
{
	return (is_localhost4(asked) || is_localhost6(asked)) &&
	       session_at(ctx, asked, ctx->user_port, s, GIVEN_HERE);
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
		mark_bound(ctx, s, MOVED_HERE);
		return ALLOW;
	}
	if (s && !port && (c->flags & LOOPBACK) &&
	    (is_localhost4(address) || is_localhost6(address)))
		mark_bound(ctx, s, GIVEN_HERE);
	if (!s || !(c->flags & (ENABLED | LOOPBACK)) || !names_source(c, address, port) ||
	    (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return ALLOW;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct matched m = match_program(c);
	struct address given = place(ctx, c, address, s, &m);
	bool moves = !unset(&given) && !is_excluded(&m, protocol, port);
	if (moves && is_given(ctx, address, s)) {
		mark_bound(ctx, s, GIVEN_HERE);
	} else if (moves) {
		if (port) {
			struct moved note = { .asked = *address, .given = given,
					      .session = s->id, .port = ntohs(port),
					      .protocol = protocol };
			bpf_map_update_elem(&MOVED, &cookie, &note, BPF_ANY);
		}
		bool any = unset(address) || is_ipv4_wildcard(address);
		mark_bound(ctx, s, MOVED_HERE | (any ? ASKED_ANY : 0));
		if (unset(address) && is_mapped(&given))
			mark_dual(ctx, s, &given);
		count(MOVED_BINDS);
		*address = given;
		return ALLOW;
	}
	bpf_map_delete_elem(&MOVED, &cookie);
	if (is_own(s, address))
		mark_bound(ctx, s, 0);
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
