/* Who descends from a listed program, and from a script's process? Attached only
 * with `children = true`, or where a list has a script.
 *
 * DESCENDANTS has the processes that run, have run, or descend from one that
 * ran a listed program: the mark is set at exec, copied at fork, and goes with
 * the last thread. It is the number of the entry that listed the program, so
 * that it lasts as long as the entry does.
 */
#pragma once

#include "script.h"

SEC("tp_btf/sched_process_fork") int process_fork(__u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0];
	struct task_struct *child = (void *)ctx[1];
	__u32 from = parent->tgid, to = child->tgid;
	if (from == to)
		return 0;
	__u32 *mark = bpf_map_lookup_elem(&DESCENDANTS, &from);
	if (mark)
		count_full(FULL_DESCENDANTS, bpf_map_update_elem(&DESCENDANTS, &to, mark, BPF_ANY));
	struct script *script = bpf_map_lookup_elem(&SCRIPTS, &from);
	if (script)
		count_full(FULL_SCRIPTS, bpf_map_update_elem(&SCRIPTS, &to, script, BPF_ANY));
	return 0;
}

SEC("tp_btf/sched_process_exec") int process_exec(__u64 *ctx)
{
	const struct config *c = config();
	if (!c)
		return 0;
	struct task_struct *task = (void *)ctx[0];
	__u32 pid = task->tgid;
	if (!(c->flags & CHILDREN))
		return 0;
	struct matched m = match_executable(c);
	if (!(m.flags & LISTED) || (m.flags & EXCEPTED))
		return 0;
	count_full(FULL_DESCENDANTS,
		   bpf_map_update_elem(&DESCENDANTS, &pid, &m.listed_by, BPF_ANY));
	return 0;
}

SEC("tp_btf/sched_process_exit") int process_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct signal_struct *process = task->signal;
	if (process && process->live.counter > 0)
		return 0;
	__u32 pid = task->tgid;
	bpf_map_delete_elem(&DESCENDANTS, &pid);
	bpf_map_delete_elem(&SCRIPTS, &pid);
	return 0;
}
