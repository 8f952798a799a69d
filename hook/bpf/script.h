/* Which script does an interpreter run? Attached only where a list has one.
 *
 * At exec the command says so: for a `#!` line the file that was started, else
 * the argument that src/script would choose, by the same rules. It is looked
 * up by the path that it names, from the folder that the process is in, and by
 * its name. The mark goes to children at fork, and ends with exec and exit.
 */
#pragma once

#include "who.h"

/* How many arguments are read, long ones counted by the size of a text. */
#define ARGUMENTS 64
#define LETTERS 16

/* The last component of a text that has `length` bytes with its zero. False: it
 * is longer than any name that a list has. */
INLINE bool last_name(const struct text *text, long length, struct file_name *name)
{
	long from = -1;
	for (int i = 0; i < 64 && from < 0; i++) {
		long at = length - 2 - i;
		if (at < 0)
			from = 0;
		else if (text->bytes[at & (TEXT_SIZE - 1)] == '/')
			from = at + 1;
	}
	return from >= 0 && bpf_probe_read_kernel_str(name->bytes, sizeof name->bytes,
						      text->bytes + (from & (TEXT_SIZE - 1))) > 1;
}

INLINE const struct interpreter *interpreter(struct file *file)
{
	struct file_name name = {};
	struct interpreter_name key = {};
	file_name(file, &name);
	for (int i = 0; i < (int)sizeof key.bytes - 1; i++) {
		char letter = name.bytes[i];
		if (!letter || (letter >= '0' && letter <= '9'))
			return bpf_map_lookup_elem(&INTERPRETERS, &key);
		key.bytes[i] = letter;
	}
	return 0;
}

/* Where the reading of arguments stands. */
struct reading {
	const struct interpreter *rule;
	__u64 at;
	__u64 end;
	long length; /* of the file's name, once it is found */
	bool in_long, after_first, skip, next_is_file, plain, jar;
};

enum { GO_ON, STOP };

INLINE long option(struct reading *r, const struct text *text, long length)
{
	struct option_word key = { .kind = r->rule->kind };
	__u32 meaning = 0;
	bool is_whole = true;
	if (length <= (long)sizeof key.word &&
	    bpf_probe_read_kernel_str(key.word, sizeof key.word, text->bytes) > 0) {
		__u32 *known = bpf_map_lookup_elem(&OPTIONS, &key);
		if (known)
			meaning = *known;
	}
	if (!meaning && (r->rule->flags & CLUSTERS) &&
	    !(text->bytes[0] == '-' && text->bytes[1] == '-')) {
		for (int i = 1; i <= LETTERS && !meaning; i++) {
			unsigned char letter = text->bytes[i];
			if (!letter)
				break;
			meaning = r->rule->letter[letter];
			is_whole = !text->bytes[i + 1];
		}
	}
	if (meaning == MEANS_VALUE)
		r->skip = is_whole;
	else if (meaning == MEANS_JAR)
		r->jar = true;
	else if (meaning == MEANS_FILE && is_whole)
		r->next_is_file = true;
	else if (meaning == MEANS_NO_FILE || meaning == MEANS_FILE)
		return STOP;
	return GO_ON;
}

static long argument(__u32 index, struct reading *r)
{
	__u32 zero = 0;
	struct text *text = bpf_map_lookup_elem(&TEXTS, &zero);
	if (!text || r->at >= r->end)
		return STOP;
	long length = bpf_probe_read_user_str(text->bytes, TEXT_SIZE, (void *)r->at);
	if (length <= 0)
		return STOP;
	bool is_long = length == TEXT_SIZE, rest = r->in_long;
	r->at += is_long ? length - 1 : length;
	r->in_long = is_long;
	if (rest)
		return GO_ON;
	if (!r->after_first) {
		r->after_first = true;
		return GO_ON;
	}
	if (r->skip) {
		r->skip = false;
		return GO_ON;
	}
	char first = text->bytes[0];
	bool is_option = first == '-' || ((r->rule->flags & PLUS) && first == '+');
	if (r->next_is_file || r->plain || !is_option) {
		if (!is_long && (r->next_is_file || r->jar || !(r->rule->flags & ONLY_JAR)))
			r->length = length;
		return STOP;
	}
	if (length == 2)
		return STOP;
	if (length == 3 && first == '-' && text->bytes[1] == '-') {
		r->plain = true;
		return GO_ON;
	}
	return option(r, text, length);
}

INLINE void add_text_name(struct walk *w, const struct text *text, __u32 from, __u32 length)
{
	__u64 word[NAME_WORDS] = {};
	if (length >= sizeof word) {
		w->failed = true;
		return;
	}
	length &= sizeof word - 1;
	if (!length || bpf_probe_read_kernel(word, length, text->bytes + (from & (TEXT_SIZE - 1))))
		return;
	if (word[0] == '.')
		return;
	if (word[0] == ('.' | '.' << 8)) {
		w->up++;
		return;
	}
	if (w->up) {
		w->up--;
		return;
	}
#pragma unroll
	for (int i = 0; i < NAME_WORDS; i++)
		w->digest = (w->digest ^ word[i]) * FNV_PRIME;
}

static long letter(__u32 index, void *unused)
{
	__u32 zero = 0;
	struct text *text = bpf_map_lookup_elem(&TEXTS, &zero);
	struct walk *w = bpf_map_lookup_elem(&WALKS, &zero);
	if (!text || !w || w->failed)
		return STOP;
	__u32 at = w->at;
	if (text->bytes[at & (TEXT_SIZE - 1)] == '/') {
		add_text_name(w, text, at + 1, w->end - at - 1);
		w->end = at;
	} else if (!at) {
		add_text_name(w, text, 0, w->end);
	}
	w->at = at - 1;
	return at ? GO_ON : STOP;
}

/* The path of a text that has `length` letters, as a digest; links that it goes
 * through are not followed. */
INLINE bool text_digest(const struct text *text, __u32 length, struct task_struct *task, __u64 *to)
{
	__u32 zero = 0;
	struct walk *w = bpf_map_lookup_elem(&WALKS, &zero);
	struct fs_struct *fs = 0;
	struct vfsmount *mnt = 0;
	struct dentry *dentry = 0;
	if (!w)
		return false;
	*w = (struct walk){ .digest = FNV_START, .at = length - 1, .end = length };
	bpf_loop(TEXT_SIZE, letter, 0, 0);
	if (w->failed)
		return false;
	*to = w->digest;
	if (text->bytes[0] == '/')
		return true;
	READ(fs, task->fs);
	if (!fs)
		return false;
	READ(mnt, fs->pwd.mnt);
	READ(dentry, fs->pwd.dentry);
	return mnt && dentry && walk_up(mnt, dentry, w->up, to);
}

/* What the lists say of the script that the process was just started for. */
INLINE struct matched match_script(const struct config *c, struct task_struct *task,
				   struct linux_binprm *started)
{
	__u32 zero = 0;
	struct matched m = {};
	struct mm_struct *mm = task->mm;
	struct file *file = executable(task);
	struct text *text = bpf_map_lookup_elem(&TEXTS, &zero);
	if (!mm || !file || !text)
		return m;
	long length = 0;
	if (started->filename != started->interp) {
		length = bpf_probe_read_kernel_str(text->bytes, TEXT_SIZE, started->filename);
	} else {
		struct reading r = { .rule = interpreter(file), .at = mm->arg_start, .end = mm->arg_end };
		if (!r.rule)
			return m;
		bpf_loop(ARGUMENTS + 1, argument, &r, 0);
		length = r.length;
	}
	struct file_name name = {};
	if (length < 2 || length >= TEXT_SIZE || !last_name(text, length, &name))
		return m;
	struct program *p = bpf_map_lookup_elem(&PROGRAMS_BY_NAME, &name);
	if (!p)
		return m;
	match_as(&m, p, &m.script_by_name);
	__u64 path = 0;
	if (!(c->flags & BY_PATH) || !(p->flags & PATH_ENDS) ||
	    !text_digest(text, length - 1, task, &path))
		return m;
	if ((p = bpf_map_lookup_elem(&PROGRAMS_BY_PATH, &path)))
		match_as(&m, p, &m.script_by_file);
	return m;
}

SEC("tp_btf/sched_process_exec") int script_exec(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	__u32 pid = task->tgid;
	const struct config *c = config();
	bpf_map_delete_elem(&SCRIPTS, &pid);
	if (!c || !(c->flags & FOLLOW_SCRIPTS))
		return 0;
	struct matched m = match_script(c, task, (void *)ctx[2]);
	if (!m.script_by_file && !m.script_by_name)
		return 0;
	struct script mark = { m.flags, m.script_by_file, m.script_by_name };
	count_full(FULL_SCRIPTS, bpf_map_update_elem(&SCRIPTS, &pid, &mark, BPF_ANY));
	if ((c->flags & CHILDREN) && (m.flags & LISTED) && !(m.flags & EXCEPTED))
		count_full(FULL_DESCENDANTS,
			   bpf_map_update_elem(&DESCENDANTS, &pid, &m.listed_by, BPF_ANY));
	return 0;
}
