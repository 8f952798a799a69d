/* Whose socket is this? Filled here, read by the daemon for each new flow. */
#pragma once

#include "who.h"

INLINE bool same_file(const struct file_id *a, const struct file_id *b)
{
	return a->inode == b->inode && a->device == b->device;
}

/* The executable of the caller; its name is kept for when its path is gone. */
INLINE struct file_id caller_file(void)
{
	struct file_id id = {};
	struct file *file = executable(bpf_get_current_task_btf());
	if (file && file_id(file, &id) && !bpf_map_lookup_elem(&NAMES_OF, &id)) {
		struct file_name name = {};
		file_name(file, &name);
		bpf_map_update_elem(&NAMES_OF, &id, &name, BPF_ANY);
	}
	return id;
}

INLINE __u64 cgroup_of(struct sock *sk)
{
	struct cgroup *cgroup = 0;
	struct kernfs_node *node = 0;
	__u64 id = 0;
	READ(cgroup, sk->sk_cgrp_data.cgroup);
	if (cgroup)
		READ(node, cgroup->kn);
	if (node)
		READ(id, node->id);
	return id;
}

INLINE __u32 session_of_cgroup(__u64 cgroup)
{
	struct session *s = cgroup == bpf_get_current_cgroup_id() ?
				    session_of_caller() :
				    bpf_map_lookup_elem(&SESSIONS, &cgroup);
	return s ? s->id : 0;
}

/* What the lists say of the caller beyond its file. */
INLINE __u32 owner_flags(const struct config *c)
{
	__u32 flags = c->epoch << EPOCH | (descends_from_listed(c) ? DESCENDS : 0);
	struct script *script = script_of_caller(c);
	return script ? flags | (script->flags & 0xff) << SCRIPT_FLAGS : flags;
}

/* The caller as owner of a socket that lives in `cgroup`. */
INLINE struct owner caller_as_owner(const struct config *c, __u64 cgroup)
{
	struct owner o = {};
	o.pid = bpf_get_current_pid_tgid() >> 32;
	o.uid = bpf_get_current_uid_gid();
	o.cgroup = cgroup;
	o.session = session_of_cgroup(cgroup);
	o.flags = owner_flags(c);
	o.file = caller_file();
	return o;
}

/* The program that binds or connects a socket owns it from then on; the cgroup,
 * and so the session, stays the one the socket was made in. */
INLINE void takes_over(struct bpf_sock_addr *ctx, const struct config *c)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct owner *known = bpf_map_lookup_elem(&OWNERS, &cookie);
	if (!known) {
		struct owner o = caller_as_owner(c, cgroup_of(socket_of(ctx)));
		bpf_map_update_elem(&OWNERS, &cookie, &o, BPF_ANY);
		return;
	}
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct file_id file = caller_file();
	known->flags = owner_flags(c);
	if (known->pid == pid && same_file(&known->file, &file))
		return;
	known->pid = pid;
	known->uid = bpf_get_current_uid_gid();
	known->file = file;
}

SEC("cgroup/sock_create") int sock_create(struct bpf_sock *sk)
{
	const struct config *c = config_in(bpf_get_netns_cookie(sk));
	if (!c)
		return 1;
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct owner o = caller_as_owner(c, bpf_get_current_cgroup_id());
	bpf_map_update_elem(&OWNERS, &cookie, &o, BPF_ANY);
	return 1;
}

/* A program may send and close before its datagram has been looked at. */
INLINE void report_closed(struct bpf_sock *sk, __u64 cookie, const struct config *c)
{
	struct sock *socket = (void *)sk;
	struct sock_common *common = &socket->__sk_common;
	__u16 port = 0;
	READ(port, common->skc_num);
	if (!port)
		return;
	struct owner *known = bpf_map_lookup_elem(&OWNERS, &cookie);
	struct owner owner = known ? *known : caller_as_owner(c, cgroup_of(socket));
	if (!owner.session)
		owner.session = session_of_cgroup(owner.cgroup);
	if (!owner.session)
		return;
	struct closed *event = bpf_ringbuf_reserve(&CLOSED, sizeof *event, 0);
	if (!event) {
		count(LOST_EVENTS);
		return;
	}
	__be16 remote_port = 0;
	READ(remote_port, common->skc_dport);
	event->at = bpf_ktime_get_ns();
	event->cookie = cookie;
	event->owner = owner;
	event->local_port = port;
	event->remote_port = ntohs(remote_port);
	event->protocol = IPPROTO_UDP;
	event->family = sk->family;
	if (sk->family == AF_INET) {
		__be32 local = 0, remote = 0;
		READ(local, common->skc_rcv_saddr);
		READ(remote, common->skc_daddr);
		event->local = mapped(local);
		event->remote = mapped(remote);
	} else {
		READ(event->local, common->skc_v6_rcv_saddr);
		READ(event->remote, common->skc_v6_daddr);
	}
	/* A wake-up would cost the closing program microseconds. */
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

SEC("cgroup/sock_release") int sock_release(struct bpf_sock *sk)
{
	const struct config *c = config_in(bpf_get_netns_cookie(sk));
	if (!c)
		return 1;
	__u64 cookie = bpf_get_socket_cookie(sk);
	if (sk->protocol == IPPROTO_UDP)
		report_closed(sk, cookie, c);
	bpf_map_delete_elem(&OWNERS, &cookie);
	bpf_map_delete_elem(&MOVED, &cookie);
	return 1;
}
