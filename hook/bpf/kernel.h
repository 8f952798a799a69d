/* What the programs use of the kernel: helpers, and the few fields they read.
 *
 * Only linux-libc-dev is needed: no libbpf, no vmlinux.h. The structs below are
 * views: their field offsets are relocated when the object is loaded (CO-RE).
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define VIEW __attribute__((preserve_access_index))

/* The map definition language of libbpf, which aya reads too. */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value) *name
#define PIN_BY_NAME 1

#define htons(x) ((__be16)__builtin_bswap16(x))
#define ntohs(x) ((__u16)__builtin_bswap16(x))
#define htonl(x) ((__be32)__builtin_bswap32(x))
#define memcpy(to, from, n) __builtin_memcpy(to, from, n)

#define HELPER(type, name, ...) static type (*bpf_##name)(__VA_ARGS__) = (void *)BPF_FUNC_##name
HELPER(void *, map_lookup_elem, void *map, const void *key);
HELPER(long, map_update_elem, void *map, const void *key, const void *value, __u64 flags);
HELPER(long, map_delete_elem, void *map, const void *key);
HELPER(__u64, ktime_get_ns, void);
HELPER(__u64, get_current_pid_tgid, void);
HELPER(__u64, get_current_uid_gid, void);
HELPER(__u64, get_current_cgroup_id, void);
HELPER(__u64, get_current_ancestor_cgroup_id, int level);
HELPER(struct task_struct *, get_current_task_btf, void);
HELPER(__u64, get_socket_cookie, void *ctx);
HELPER(__u64, get_netns_cookie, void *ctx);
HELPER(__u32, get_socket_uid, struct __sk_buff *skb);
HELPER(__u64, skb_ancestor_cgroup_id, struct __sk_buff *skb, int level);
HELPER(long, skb_load_bytes, const void *skb, __u32 offset, void *to, __u32 size);
HELPER(long, probe_read_kernel, void *to, __u32 size, const void *from);
HELPER(long, probe_read_kernel_str, void *to, __u32 size, const void *from);
HELPER(long, ringbuf_output, void *ring, void *data, __u64 size, __u64 flags);
HELPER(long, probe_read_user_str, void *to, __u32 size, const void *from);
HELPER(long, loop, __u32 times, void *callback, void *context, __u64 flags);
HELPER(void *, ringbuf_reserve, void *ring, __u64 size, __u64 flags);
HELPER(void, ringbuf_submit, void *data, __u64 flags);
HELPER(long, bind, struct bpf_sock_addr *ctx, void *address, int size);
HELPER(struct bpf_sock *, sk_lookup_tcp, void *ctx, struct bpf_sock_tuple *tuple, __u32 size,
       __u64 netns, __u64 flags);
HELPER(struct bpf_sock *, sk_lookup_udp, void *ctx, struct bpf_sock_tuple *tuple, __u32 size,
       __u64 netns, __u64 flags);
HELPER(long, sock_hash_update, struct bpf_sock_ops *ops, void *map, void *key, __u64 flags);
HELPER(long, sk_assign, struct bpf_sk_lookup *ctx, struct bpf_sock *sk, __u64 flags);
HELPER(long, sk_release, struct bpf_sock *sk);
HELPER(void *, sk_storage_get, void *map, struct bpf_sock *sk, void *value, __u64 flags);
HELPER(int, set_retval, int retval);

/* Numbers of the UAPI headers that cannot be included beside linux/bpf.h. */
enum { AF_INET = 2, AF_INET6 = 10 };
enum { IPPROTO_TCP = 6, IPPROTO_UDP = 17 };
enum { E2BIG = 7, EACCES = 13, EADDRNOTAVAIL = 99 };
/* include/net/sock.h: a program has bound the socket to a port of its choice. */
enum { SOCK_BINDPORT_LOCK = 8 };

struct qstr {
	const unsigned char *name;
} VIEW;
struct dentry {
	struct qstr d_name;
	struct dentry *d_parent;
} VIEW;
struct vfsmount {
	struct dentry *mnt_root;
} VIEW;
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
} VIEW;
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} VIEW;
struct super_block {
	__u32 s_dev;
} VIEW;
struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
} VIEW;
struct file {
	struct path f_path;
	struct inode *f_inode;
} VIEW;
struct fs_struct {
	struct path pwd;
} VIEW;
struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
} VIEW;
struct linux_binprm {
	const char *filename;
	const char *interp;
} VIEW;
typedef struct {
	int counter;
} VIEW atomic_t;
struct signal_struct {
	atomic_t live;
} VIEW;
struct task_struct {
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct signal_struct *signal;
	int tgid;
} VIEW;

struct net {
	__u64 net_cookie;
} VIEW;
typedef struct {
	struct net *net;
} VIEW possible_net_t;
struct kernfs_node {
	__u64 id;
} VIEW;
struct cgroup {
	struct kernfs_node *kn;
} VIEW;
struct sock_cgroup_data {
	struct cgroup *cgroup;
} VIEW;
struct in6_addr_view {
	__u32 word[4];
};
struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	__u16 skc_family;
	unsigned char skc_ipv6only : 1;
	possible_net_t skc_net;
	struct in6_addr_view skc_v6_daddr;
	struct in6_addr_view skc_v6_rcv_saddr;
} VIEW;
struct sock {
	struct sock_common __sk_common;
	struct sock_cgroup_data sk_cgrp_data;
	unsigned char sk_userlocks : 4;
} VIEW;
struct sk_buff {
	struct sock *sk;
} VIEW;
struct bpf_sock_addr_kern {
	struct sock *sk;
} VIEW;

/* Reads the field at `from`, an expression over the views above. */
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), &(from))
