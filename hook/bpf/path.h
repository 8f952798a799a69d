/* Which path has this file? As a digest: src/path.rs has the same.
 *
 * The walk goes from the file's own name up to the root of the mount namespace.
 * A file that was deleted, or replaced while it runs, still has the path that it
 * had; so a program is known by its path before the daemon has looked what file
 * stands there now, and after it has gone.
 */
#pragma once

#include "layout.h"

/* Folders and mounts above a file, and the words of a name with its zero. What
 * goes beyond is known by its file and by its name only. */
#define STEPS 48
#define NAME_WORDS 16

#define FNV_PRIME 0x00000100000001b3ULL
#define FNV_START 0xcbf29ce484222325ULL

/* The mount that `mnt` lies in. */
INLINE struct mount *mount_of(struct vfsmount *mnt)
{
	struct mount *m = 0;
	return (void *)((char *)mnt - __builtin_preserve_field_info(m->mnt, 0));
}

/* Adds a name: all words of the room for it, so that there is nothing to branch
 * on. Names differ in their words, for they have no zeroes. */
INLINE bool add_name(__u64 *digest, struct dentry *dentry)
{
	const unsigned char *name = 0;
	__u64 word[NAME_WORDS] = {};
	READ(name, dentry->d_name.name);
	long length = name ? bpf_probe_read_kernel_str(word, sizeof word, name) : 0;
	if (length <= 0 || length == sizeof word)
		return false;
#pragma unroll
	for (int i = 0; i < NAME_WORDS; i++)
		*digest = (*digest ^ word[i]) * FNV_PRIME;
	return true;
}

/* Adds the names from `dentry` up, without the first `skip` of them. */
INLINE bool walk_up(struct vfsmount *mnt, struct dentry *dentry, __u32 skip, __u64 *digest)
{
	struct mount *mount = mount_of(mnt);
	for (int step = 0; step < STEPS; step++) {
		struct dentry *root = 0, *up = 0;
		READ(root, mount->mnt.mnt_root);
		READ(up, dentry->d_parent);
		if (dentry == root || dentry == up) {
			struct mount *below = 0;
			READ(below, mount->mnt_parent);
			if (!below || below == mount)
				return true;
			READ(dentry, mount->mnt_mountpoint);
			mount = below;
			continue;
		}
		if (skip)
			skip--;
		else if (!add_name(digest, dentry))
			return false;
		dentry = up;
	}
	return false;
}

INLINE bool path_digest(struct file *file, __u64 *to)
{
	struct vfsmount *mnt = 0;
	struct dentry *dentry = 0;
	READ(mnt, file->f_path.mnt);
	READ(dentry, file->f_path.dentry);
	*to = FNV_START;
	return mnt && dentry && walk_up(mnt, dentry, 0, to);
}
