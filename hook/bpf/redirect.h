/* Where does a connect or sendto go? Rows O2, O3, O4 and O7 of DESIGN.md. */
#pragma once

#include "packet.h"
#include "source.h"

INLINE bool is_loopback4(__be32 ipv4)
{
	/* Linux takes 0.0.0.0 as destination for 127.0.0.1. */
	return !ipv4 || (ipv4 & htonl(0xff000000)) == htonl(0x7f000000);
}

INLINE bool is_loopback(const struct address *a)
{
	if (is_mapped(a))
		return is_loopback4(a->word[3]);
	/* :: as destination is ::1. */
	return !(a->word[0] | a->word[1] | a->word[2]) &&
	       (!a->word[3] || a->word[3] == htonl(1));
}

/* What the target becomes, and which source goes with it; unset: unchanged.
 * `outward`: it leaves the host, and the source is the engine's to set if the
 * socket does not take it. */
struct route {
	struct address target;
	struct address source;
	bool outward;
};

INLINE struct route both(const struct address *a)
{
	return (struct route){ *a, *a, false };
}

/* A dual-stack socket with a port of its own choice was moved to V: from there
 * it speaks IPv4 only. */
INLINE bool is_bound_to_ipv4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct address at = { { sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3] } };
	return is_mapped(&at);
}

/* O3 and O4: localhost stays what it was before the listener was moved. A
 * program with a loopback of its session's own finds every socket that the
 * session has there, any other program those that the hook moved; L goes
 * before V, and keeps the source. `ipv4`: the socket can speak IPv4. A listener
 * on exactly 127.0.0.53 and the like goes before a wildcard one, as in the
 * kernel, and one that asked for 127.0.0.1 is not found by another name. */
INLINE struct route from_loopback(struct bpf_sock_addr *ctx, const struct config *c,
				  const struct address *asked, __be16 port,
				  const struct session *s, bool ipv4)
{
	struct route to = {};
	__u32 moved = MOVED_HERE, here = MOVED_HERE | ASKED_ANY;
	if (c->flags & LOOPBACK) {
		struct matched m = match_program(c);
		if (has_own_loopback(c, &m))
			moved = 0;
	}
	if (is_mapped(asked)) {
		if (!asked->word[3] || is_localhost4(asked))
			here = moved;
		else if (anybody_at(ctx, asked, port))
			return to;
	} else if (!is_bound_to_ipv4(ctx)) {
		if (session_at(ctx, &s->private6, port, s, moved))
			return both(&s->private6);
		if (session_at(ctx, &s->ipv6, port, s, moved))
			return both(&s->ipv6);
	}
	if (!ipv4)
		return to;
	struct address at = mapped(s->loopback);
	if (s->loopback && session_at(ctx, &at, port, s, here)) {
		to.target = at;
		return to;
	}
	at = mapped(s->ipv4);
	if (s->ipv4 && session_at(ctx, &at, port, s, moved))
		return both(&at);
	return to;
}

INLINE struct route route(struct bpf_sock_addr *ctx, const struct config *c,
			  const struct address *asked, __be16 port, const struct session *s,
			  bool ipv4)
{
	struct route to = {};
	if (is_loopback(asked))
		return from_loopback(ctx, c, asked, port, s, ipv4);
	if (!(c->flags & ENABLED))
		return to;
	struct address own = {};
	if (!is_mapped(asked))
		own = s->ipv6;
	else if (s->ipv4)
		own = mapped(s->ipv4);
	if (unset(&own))
		return to;
	/* O2 */
	if (bpf_map_lookup_elem(&HOST, asked)) {
		if (session_at(ctx, &own, port, s, false))
			to = both(&own);
		return to;
	}
	/* O7 */
	if (bpf_map_lookup_elem(&HOLDERS, asked)) {
		to.source = own;
		return to;
	}
	/* O1 */
	to.source = source_for(ctx, c, asked, &own, s);
	to.outward = !unset(&to.source);
	return to;
}

/* Keeps what was asked, for recvmsg and getpeername. One answer per endpoint:
 * a socket that asks for both 127.0.0.1:p and V:p is shown the last it asked
 * for, and the oldest of more than REDIRECTS endpoints is shown as V. */
INLINE void remember(struct bpf_sock_addr *ctx, const struct address *asked,
		     const struct address *given, __be16 port)
{
	struct redirects *notes =
		bpf_sk_storage_get(&REDIRECTED_TO, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!notes)
		return;
	struct redirect note = { *asked, *given, port, 1 };
	for (int i = 0; i < REDIRECTS; i++) {
		struct redirect *r = &notes->last[i];
		if (r->used && r->port == port && same(&r->given, given)) {
			r->asked = *asked;
			return;
		}
	}
	__u32 next = notes->next % REDIRECTS;
	notes->last[next] = note;
	notes->next = next + 1;
}

/* The redirect that an answer from this endpoint belongs to. */
INLINE struct redirect *redirect_to(struct bpf_sock_addr *ctx, const struct address *from,
				    __be16 port)
{
	struct redirects *notes = bpf_sk_storage_get(&REDIRECTED_TO, ctx->sk, 0, 0);
	if (!notes)
		return 0;
	for (int i = 0; i < REDIRECTS; i++) {
		struct redirect *r = &notes->last[i];
		if (r->used && r->port == port && same(&r->given, from))
			return r;
	}
	return 0;
}

/* The program now asks for the endpoint itself. */
INLINE void forget(struct bpf_sock_addr *ctx, const struct address *given, __be16 port)
{
	struct redirect *r = redirect_to(ctx, given, port);
	if (r)
		r->used = 0;
}

/* Decides for one call, and keeps account of it. */
INLINE struct route decide_route(struct bpf_sock_addr *ctx, const struct config *c,
				 const struct address *asked, bool ipv4)
{
	struct route to = {};
	__be16 port = ctx->user_port;
	if (!(c->flags & (ENABLED | LOOPBACK)) || !port ||
	    (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP))
		return to;
	struct session *s = session_of_caller();
	if (!s)
		return to;
	to = route(ctx, c, asked, port, s, ipv4);
	if (!unset(&to.target)) {
		remember(ctx, asked, &to.target, port);
		count(REDIRECTED);
	} else {
		forget(ctx, asked, port);
	}
	return to;
}

/* The source goes by bind, with a port chosen at connect as usual. That fails
 * where the socket has a port already: then the kernel chooses the source, and
 * the engine rewrites what leaves. */
INLINE bool take_source4(struct bpf_sock_addr *ctx, __be32 source)
{
	struct {
		__u16 family;
		__be16 port;
		__be32 address;
		__u64 zero;
	} at = { AF_INET, 0, source, 0 };
	return ctx->sk->src_ip4 == 0 && !bpf_bind(ctx, &at, sizeof at);
}

INLINE bool take_source6(struct bpf_sock_addr *ctx, const struct address *source)
{
	struct bpf_sock *sk = ctx->sk;
	struct {
		__u16 family;
		__be16 port;
		__u32 flow;
		struct address address;
		__u32 scope;
	} at = { AF_INET6, 0, 0, *source, 0 };
	return !(sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3]) &&
	       !bpf_bind(ctx, &at, sizeof at);
}

INLINE void tell_of_outward(struct bpf_sock_addr *ctx, const struct config *c,
			    const struct route *to, bool taken)
{
	struct address none = {};
	if (c->flags & CONNECT)
		tell_source(ctx, to->outward && !taken ? &to->source : &none);
}

SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *ctx)
{
	const struct config *c = config_in(bpf_get_netns_cookie(ctx));
	if (!c)
		return ALLOW;
	takes_over(ctx, c);
	struct address asked = mapped(ctx->user_ip4);
	struct route to = decide_route(ctx, c, &asked, true);
	bool taken = !unset(&to.source) && take_source4(ctx, to.source.word[3]);
	tell_of_outward(ctx, c, &to, taken);
	if (!unset(&to.target))
		ctx->user_ip4 = to.target.word[3];
	return ALLOW;
}

SEC("cgroup/connect6") int connect6(struct bpf_sock_addr *ctx)
{
	const struct config *c = config_in(bpf_get_netns_cookie(ctx));
	if (!c)
		return ALLOW;
	takes_over(ctx, c);
	struct address asked = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
				   ctx->user_ip6[3] } };
	struct route to = decide_route(ctx, c, &asked, !is_v6only(socket_of(ctx)));
	bool taken = !unset(&to.source) && take_source6(ctx, &to.source);
	tell_of_outward(ctx, c, &to, taken);
	if (!unset(&to.target)) {
		ctx->user_ip6[0] = to.target.word[0];
		ctx->user_ip6[1] = to.target.word[1];
		ctx->user_ip6[2] = to.target.word[2];
		ctx->user_ip6[3] = to.target.word[3];
	}
	return ALLOW;
}

/* A server on the wildcard that the hook did not move, being older than the
 * daemon for instance, answers from the address that was asked: the engine
 * knows which. */
INLINE bool may_choose(struct bpf_sock_addr *ctx, const struct route *to)
{
	return !to->outward || !has_port_of_its_choice(socket_of(ctx));
}

/* Also for IPv4-mapped targets of AF_INET6 sockets. */
SEC("cgroup/sendmsg4") int sendmsg4(struct bpf_sock_addr *ctx)
{
	const struct config *c = config_in(bpf_get_netns_cookie(ctx));
	if (!c)
		return ALLOW;
	struct address asked = mapped(ctx->user_ip4);
	struct route to = decide_route(ctx, c, &asked, true);
	if (!unset(&to.source) && ctx->msg_src_ip4 == 0 && may_choose(ctx, &to))
		ctx->msg_src_ip4 = to.source.word[3];
	if (!unset(&to.target))
		ctx->user_ip4 = to.target.word[3];
	return ALLOW;
}

/* A dual-stack socket that was moved to V would send to IPv6 from ::ffff:V, which
 * the kernel refuses (EAFNOSUPPORT): it sends from where it is found by IPv6, or
 * as the kernel chooses. Its mark says where it is found, the session whether that
 * is on the host now. One that asked for an IPv4 address is refused as ever. */
INLINE void leave_ipv4(struct bpf_sock_addr *ctx, const struct address *target,
		       struct address *source)
{
	struct bound *mark = bpf_sk_storage_get(&BOUND, ctx->sk, 0, 0);
	if (!has_other_places(mark))
		return;
	struct address from = mark->also[SESSION_LOOPBACK];
	if (!is_private6(target)) {
		struct session *s = session_of_caller();
		from = (struct address){};
		if (s && s->id == mark->session && !unset(&mark->also[VIRTUAL_ADDRESS]))
			from = s->ipv6;
	}
	*source = from;
}

/* The kernel refuses to turn ::1 into an IPv4-mapped address here (ENOTSUPP in
 * udpv6_sendmsg): a listener that only IPv4 leads to is not reached. */
SEC("cgroup/sendmsg6") int sendmsg6(struct bpf_sock_addr *ctx)
{
	const struct config *c = config_in(bpf_get_netns_cookie(ctx));
	if (!c)
		return ALLOW;
	struct address asked = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
				   ctx->user_ip6[3] } };
	struct route to = decide_route(ctx, c, &asked, false);
	struct address from = { { ctx->msg_src_ip6[0], ctx->msg_src_ip6[1], ctx->msg_src_ip6[2],
				  ctx->msg_src_ip6[3] } };
	struct address source = from;
	if (is_mapped(&from) && from.word[3])
		leave_ipv4(ctx, unset(&to.target) ? &asked : &to.target, &source);
	else if (!unset(&to.source) && unset(&from) && may_choose(ctx, &to))
		source = to.source;
	if (!same(&source, &from)) {
		ctx->msg_src_ip6[0] = source.word[0];
		ctx->msg_src_ip6[1] = source.word[1];
		ctx->msg_src_ip6[2] = source.word[2];
		ctx->msg_src_ip6[3] = source.word[3];
	}
	if (!unset(&to.target)) {
		ctx->user_ip6[0] = to.target.word[0];
		ctx->user_ip6[1] = to.target.word[1];
		ctx->user_ip6[2] = to.target.word[2];
		ctx->user_ip6[3] = to.target.word[3];
	}
	return ALLOW;
}

/* An address the kernel is about to tell a program: the one it asked for. */
INLINE int tell4(struct bpf_sock_addr *ctx)
{
	struct address peer = mapped(ctx->user_ip4);
	struct redirect *r = redirect_to(ctx, &peer, ctx->user_port);
	if (r)
		ctx->user_ip4 = r->asked.word[3];
	return ALLOW;
}

INLINE int tell6(struct bpf_sock_addr *ctx)
{
	struct address peer = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
				  ctx->user_ip6[3] } };
	struct redirect *r = redirect_to(ctx, &peer, ctx->user_port);
	if (r) {
		ctx->user_ip6[0] = r->asked.word[0];
		ctx->user_ip6[1] = r->asked.word[1];
		ctx->user_ip6[2] = r->asked.word[2];
		ctx->user_ip6[3] = r->asked.word[3];
	}
	return ALLOW;
}

SEC("cgroup/recvmsg4") int recvmsg4(struct bpf_sock_addr *ctx)
{
	return tell4(ctx);
}

SEC("cgroup/recvmsg6") int recvmsg6(struct bpf_sock_addr *ctx)
{
	return tell6(ctx);
}

SEC("cgroup/getpeername4") int getpeername4(struct bpf_sock_addr *ctx)
{
	return tell4(ctx);
}

SEC("cgroup/getpeername6") int getpeername6(struct bpf_sock_addr *ctx)
{
	return tell6(ctx);
}
