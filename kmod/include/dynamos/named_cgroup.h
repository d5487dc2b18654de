/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dynamos/named_cgroup.h - a module parameter of an edition that names a cgroup
 *
 *	static struct named_cgroup __rcu *foreground;
 *	module_param_cb(foreground, &named_cgroup_ops, &foreground, 0644);
 *
 * The cgroup is that of its path from the root of cgroup v2 at the moment it was set, and no other one that has the
 * name later; when it has been removed, the parameter shows nothing. An empty path is no cgroup.
 *
 * Calls read it under RCU: rcu_dereference(foreground)->cgroup, if it is not NULL. It is replaced by who holds the
 * parameters' lock. An edition with more to say when it is set has its own .set, which calls named_cgroup_set().
 */
#ifndef _DYNAMOS_NAMED_CGROUP_H
#define _DYNAMOS_NAMED_CGROUP_H

#include <linux/cgroup.h>
#include <linux/err.h>
#include <linux/moduleparam.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>

/* The cgroup, and how it was named. Constant. */
struct named_cgroup {
	struct cgroup *cgroup;
	char path[];
};

static inline void named_cgroup_forget(struct named_cgroup *named)
{
	if (!named)
		return;
	cgroup_put(named->cgroup);
	kfree(named);
}

/* Return: what @path names, held until it is forgotten; NULL for an empty one; or an error pointer. May sleep. */
static inline struct named_cgroup *named_cgroup_find(const char *path, size_t length)
{
	struct named_cgroup *named;
	void *failed;

	if (!length)
		return NULL;
	if (*path != '/')
		return ERR_PTR(-EINVAL);
	named = kzalloc(sizeof(*named) + length + 1, GFP_KERNEL);
	if (!named)
		return ERR_PTR(-ENOMEM);
	memcpy(named->path, path, length);
	named->cgroup = cgroup_get_from_path(named->path);
	if (!IS_ERR(named->cgroup))
		return named;
	failed = named->cgroup;
	kfree(named);
	return failed;
}

static inline struct named_cgroup __rcu **named_cgroup_of(void *arg)
{
	return (struct named_cgroup __rcu **)arg;
}

static inline int named_cgroup_set(const char *value, const struct kernel_param *param)
{
	struct named_cgroup *before, *named = named_cgroup_find(value, strcspn(value, "\n"));

	if (IS_ERR(named))
		return PTR_ERR(named);
	before = rcu_replace_pointer(*named_cgroup_of(param->arg), named, true);
	synchronize_rcu();
	named_cgroup_forget(before);
	return 0;
}

static inline int named_cgroup_get(char *buffer, const struct kernel_param *param)
{
	const struct named_cgroup *named = rcu_dereference_protected(*named_cgroup_of(param->arg), true);
	/* One that was removed is none, whatever has its name now: who holds the parameter at a value sees that. */
	bool is_there = named && named->cgroup->self.flags & CSS_ONLINE;

	return scnprintf(buffer, PAGE_SIZE, "%s\n", is_there ? named->path : "");
}

/* The module is gone, or never came to be: nobody calls. */
static inline void named_cgroup_free(void *arg)
{
	named_cgroup_forget(rcu_dereference_protected(*named_cgroup_of(arg), true));
}

static const struct kernel_param_ops __maybe_unused named_cgroup_ops = {
	.set = named_cgroup_set,
	.get = named_cgroup_get,
	.free = named_cgroup_free,
};

#endif /* _DYNAMOS_NAMED_CGROUP_H */
