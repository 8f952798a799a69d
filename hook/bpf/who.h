/* Which session is this, and is its program listed? */
#pragma once

#include "path.h"

/* How deep below the cgroup root a session's folder may lie. */
#define DEEPEST 10

INLINE void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&COUNTERS, &counter);
	if (value)
		*value += 1;
}

/* What an update of a table said. That it has no room left is counted; what is
 * refused for another reason is not. */
INLINE void count_full(__u32 counter, long result)
{
	if ((int)result == -E2BIG)
		count(counter);
}

INLINE const struct config *config(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&CONFIG, &zero);
}

/* The configuration, if this happens in the daemon's network namespace:
 * cgroups know no namespaces, the addresses we give do. */
INLINE const struct config *config_in(__u64 netns)
{
	const struct config *c = config();
	return c && c->netns == netns ? c : 0;
}

/* The session of the calling task; the deepest folder wins, so that a
 * session-N.scope goes before the user slice around it. */
INLINE struct session *session_of_caller(void)
{
#pragma unroll
	for (int level = DEEPEST; level >= 1; level--) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			continue;
		struct session *s = bpf_map_lookup_elem(&SESSIONS, &id);
		if (s)
			return s;
	}
	return 0;
}

/* The session of the socket that a packet belongs to. */
INLINE struct session *session_of_packet(struct __sk_buff *skb)
{
#pragma unroll
	for (int level = DEEPEST; level >= 1; level--) {
		__u64 id = bpf_skb_ancestor_cgroup_id(skb, level);
		if (!id)
			continue;
		struct session *s = bpf_map_lookup_elem(&SESSIONS, &id);
		if (s)
			return s;
	}
	return 0;
}

INLINE bool same(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

INLINE bool unset(const struct address *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

INLINE struct address mapped(__be32 ipv4)
{
	return (struct address){ { 0, 0, htonl(0xffff), ipv4 } };
}

INLINE bool is_mapped(const struct address *a)
{
	return !(a->word[0] | a->word[1]) && a->word[2] == htonl(0xffff);
}

/* The executable of a task; false for kernel threads. */
INLINE struct file *executable(struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	return mm ? mm->exe_file : 0;
}

INLINE bool file_id(struct file *file, struct file_id *id)
{
	struct inode *inode = file->f_inode;
	if (!inode || !inode->i_sb)
		return false;
	id->inode = inode->i_ino;
	id->device = inode->i_sb->s_dev;
	return true;
}

INLINE void file_name(struct file *file, struct file_name *name)
{
	struct dentry *dentry = file->f_path.dentry;
	if (dentry)
		bpf_probe_read_kernel_str(name->bytes, sizeof name->bytes, dentry->d_name.name);
}

/* What the lists say of a program, by its file or path and by its name. */
struct matched {
	__u32 flags;
	__u32 by_file;
	__u32 by_name;
	__u32 listed_by; /* 0: by "*" */
	__u32 script_by_file;
	__u32 script_by_name;
};

INLINE void match_as(struct matched *m, const struct program *p, __u32 *known_as)
{
	m->flags |= p->flags & ~PATH_ENDS;
	*known_as = p->id;
	if (p->flags & LISTED)
		m->listed_by = p->id;
}

/* One look-up for each kind of entry that the lists have. The file comes first,
 * for it is what a hard link or a bind mount shares with a listed path; its path
 * is walked only where a listed one has the same last name. */
INLINE void match_file(const struct config *c, struct file *file, struct matched *m)
{
	struct program *p = 0;
	if (c->flags & BY_FILE) {
		struct file_id id = {};
		if (file_id(file, &id) && (p = bpf_map_lookup_elem(&PROGRAMS_BY_FILE, &id)))
			match_as(m, p, &m->by_file);
	}
	if (!(c->flags & BY_NAME))
		return;
	struct file_name name = {};
	file_name(file, &name);
	struct program *named = bpf_map_lookup_elem(&PROGRAMS_BY_NAME, &name);
	if (!named)
		return;
	match_as(m, named, &m->by_name);
	if (p || !(c->flags & BY_PATH) || !(named->flags & PATH_ENDS))
		return;
	__u64 path = 0;
	if (path_digest(file, &path) && (p = bpf_map_lookup_elem(&PROGRAMS_BY_PATH, &path)))
		match_as(m, p, &m->by_file);
}

/* What the lists say of the script that the caller runs, if they know it. */
INLINE struct script *script_of_caller(const struct config *c)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	return c->flags & FOLLOW_SCRIPTS ? bpf_map_lookup_elem(&SCRIPTS, &pid) : 0;
}

/* What the lists say of the program file; with "*" and no exceptions there is no
 * look-up. */
INLINE struct matched match_executable(const struct config *c)
{
	struct matched m = {};
	if (c->flags & ALL_LISTED)
		m.flags |= LISTED;
	if (c->flags & ALL_EXCEPTED)
		m.flags |= EXCEPTED;
	if (c->flags & ALL_LOOPBACK)
		m.flags |= LOOPBACK_LISTED;
	if (c->flags & ALL_PREFERRED)
		m.flags |= PREFERRED;
	if (!(c->flags & (BY_FILE | BY_NAME)))
		return m;
	struct file *file = executable(bpf_get_current_task_btf());
	if (file)
		match_file(c, file, &m);
	return m;
}

/* And of the script that it interprets. */
INLINE struct matched match_program(const struct config *c)
{
	struct matched m = match_executable(c);
	struct script *script = script_of_caller(c);
	if (script) {
		m.flags |= script->flags;
		m.script_by_file = script->by_file;
		m.script_by_name = script->by_name;
	}
	return m;
}

INLINE bool descends_from_listed(const struct config *c)
{
	if (!(c->flags & CHILDREN))
		return false;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	return bpf_map_lookup_elem(&DESCENDANTS, &pid) != 0;
}

/* `except` wins over everything. */
INLINE bool is_listed(const struct config *c, const struct matched *m)
{
	if (m->flags & EXCEPTED)
		return false;
	return (m->flags & LISTED) || descends_from_listed(c);
}

/* Is its 127.0.0.1 its session's own? Exceptions win here, too. */
INLINE bool has_own_loopback(const struct config *c, const struct matched *m)
{
	return (c->flags & LOOPBACK) && (m->flags & LOOPBACK_LISTED) && !(m->flags & EXCEPTED);
}

INLINE bool is_excluded(const struct matched *m, __u16 protocol, __be16 port)
{
	struct exclusion key = { .port = ntohs(port), .protocol = protocol };
	if (bpf_map_lookup_elem(&EXCLUDED, &key))
		return true;
	if ((key.program = m->by_file) && bpf_map_lookup_elem(&EXCLUDED, &key))
		return true;
	if ((key.program = m->by_name) && bpf_map_lookup_elem(&EXCLUDED, &key))
		return true;
	if ((key.program = m->script_by_file) && bpf_map_lookup_elem(&EXCLUDED, &key))
		return true;
	if ((key.program = m->script_by_name) && bpf_map_lookup_elem(&EXCLUDED, &key))
		return true;
	return false;
}

INLINE bool in_pool(const struct address *a)
{
	struct prefix key = { .length = 128, .address = *a };
	return bpf_map_lookup_elem(&POOL, &key) != 0;
}

/* The kernel's own socket behind a context, for what the context lacks. */
INLINE struct sock *socket_of(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kernel = (void *)ctx;
	struct sock *sk = 0;
	READ(sk, kernel->sk);
	return sk;
}

/* Neither the context nor bpf_getsockopt() tells IPV6_V6ONLY. */
INLINE bool is_v6only(struct sock *sk)
{
	struct sock_common *common = (void *)sk;
	unsigned char byte = 0;
	bpf_probe_read_kernel(&byte, 1,
			      (char *)common +
				      __builtin_preserve_field_info(common->skc_ipv6only, 0));
	__u64 bits = (__u64)byte << __builtin_preserve_field_info(common->skc_ipv6only, 4);
	return bits >> __builtin_preserve_field_info(common->skc_ipv6only, 5);
}

/* Nor do they tell whether the program chose the socket's port. */
INLINE bool has_port_of_its_choice(struct sock *sk)
{
	unsigned char byte = 0;
	bpf_probe_read_kernel(&byte, 1,
			      (char *)sk + __builtin_preserve_field_info(sk->sk_userlocks, 0));
	__u64 bits = (__u64)byte << __builtin_preserve_field_info(sk->sk_userlocks, 4);
	return (bits >> __builtin_preserve_field_info(sk->sk_userlocks, 5)) & SOCK_BINDPORT_LOCK;
}
