// SPDX-License-Identifier: GPL-2.0
/*
 * parameter.c - the parameters of editions: those of their modules, seen and set where the edition is
 *
 * They are ordinary module parameters, with the module's own checks and its own lock; `set` only adds that a change is
 * an event and a refusal has a reason.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "core.h"

/* The longest that fits into a command, with its shortest names: an event has room for it. */
#define VALUE_MAX 192

/* One file of editions/<edition>/parameters/. */
struct parameter_file {
	struct kobj_attribute attribute;
	const struct kernel_param *param;
	struct module *owner;
};

struct parameters {
	struct kobject kobj;
	unsigned int count;
	struct parameter_file files[];
};

/* Names are those of module.parameter: what is behind the dot. */
static const char *short_name(const struct kernel_param *param)
{
	const char *dot = strrchr(param->name, '.');

	return dot ? dot + 1 : param->name;
}

static const struct kernel_param *find(const struct module *module, const char *name)
{
	unsigned int i;

	for (i = 0; i < module->num_kp; i++)
		if (!strcmp(short_name(&module->kp[i]), name))
			return &module->kp[i];
	return NULL;
}

/* ------------------------------------------------------------------------------------------------------ setting */

static int set_value(struct edition *edition, const char *name, const char *value, struct request *request)
{
	struct module *module = edition->def->owner;
	const struct kernel_param *param = find(module, name);
	int err;

	if (!param || !param->ops->set) {
		request_reason(request, "edition %s has no parameter %s", edition->def->name, name);
		return -ESRCH;
	}
	if (!(param->perm & 0222)) {
		request_reason(request, "parameter %s cannot be changed while the module is loaded", name);
		return -EPERM;
	}
	kernel_param_lock(module);
	err = param->ops->set(value, param);
	kernel_param_unlock(module);
	if (err) {
		request_reason(request, "%s=%s: not taken (error %d)", name, value, -err);
		return -EINVAL;
	}
	event_emit("parameter", "subsystem=%s edition=%s parameter=%s value=\"%s\" by=%d",
		   edition->subsystem->def->name, edition->def->name, name, value, request->by);
	return 0;
}

/* Until module_put() of its owner, the edition stays. Return: it, or an error pointer. */
static struct edition *edition_pin(const char *subsystem_name, const char *edition_name, struct request *request)
{
	struct edition *edition;

	mutex_lock(&dynamos_lock);
	edition = edition_by_names(subsystem_name, edition_name, request);
	if (!IS_ERR(edition) && !failable(try_module_get(edition->def->owner), false)) {
		request_reason(request, "the module of edition %s is being removed", edition_name);
		edition = ERR_PTR(-ENXIO);
	}
	mutex_unlock(&dynamos_lock);
	return edition;
}

/**
 * parameter_set() - change a parameter of an edition's module
 * @subsystem_name: name of the subsystem
 * @edition_name: name of the edition
 * @assignment: "name=value"; is changed
 * @request: who asks; gets the sentence when the answer is no
 *
 * The parameter's own code, which is the author's, runs without dynamos_lock: our own parameters take that inside the
 * lock of parameters.
 *
 * Return: 0; -ENOENT, -ENXIO no such subsystem or edition, -EINVAL malformed or not taken by the module, -ESRCH no such
 * parameter, -EPERM it is not for writing.
 */
int parameter_set(const char *subsystem_name, const char *edition_name, char *assignment, struct request *request)
{
	struct edition *edition;
	char *value = assignment;
	char *name;
	int err;

	name = strsep(&value, "=");
	if (!value || !*name || strlen(value) > VALUE_MAX) {
		request_reason(request, "%.64s is not a parameter=value", assignment);
		return -EINVAL;
	}
	edition = edition_pin(subsystem_name, edition_name, request);
	if (IS_ERR(edition))
		return PTR_ERR(edition);
	err = set_value(edition, name, value, request);
	module_put(edition->def->owner);
	return err;
}

/* ------------------------------------------------------------------------------------------------------ showing */

static ssize_t value_show(struct kobject *kobj, struct kobj_attribute *attribute, char *buffer)
{
	struct parameter_file *file = container_of(attribute, struct parameter_file, attribute);
	int length;

	kernel_param_lock(file->owner);
	length = file->param->ops->get(buffer, file->param);
	kernel_param_unlock(file->owner);
	return length;
}

static void parameters_release(struct kobject *kobj)
{
	kfree(container_of(kobj, struct parameters, kobj));
}

static const struct kobj_type parameters_type = {
	.sysfs_ops = &kobj_sysfs_ops,
	.release = parameters_release,
};

static int file_add(struct parameters *parameters, struct module *owner, const struct kernel_param *param)
{
	struct parameter_file *file = &parameters->files[parameters->count++];

	sysfs_attr_init(&file->attribute.attr);
	file->attribute.attr.name = short_name(param);
	file->attribute.attr.mode = param->perm & 0444;
	file->attribute.show = value_show;
	file->param = param;
	file->owner = owner;
	return failable(sysfs_create_file(&parameters->kobj, &file->attribute.attr), -ENOMEM);
}

static int files_add(struct parameters *parameters, struct module *owner)
{
	unsigned int i;
	int err;

	for (i = 0; i < owner->num_kp; i++) {
		const struct kernel_param *param = &owner->kp[i];

		if (!(param->perm & 0444) || !param->ops->get)
			continue;
		err = file_add(parameters, owner, param);
		if (err)
			return err;
	}
	return 0;
}

/* What failed half-way is undone by the caller, with parameters_hide(). */
int parameters_show(struct edition *edition)
{
	struct module *owner = edition->def->owner;
	struct parameters *parameters;
	int err;

	/* The original is the kernel's: its module has nothing to set. */
	if (!owner->num_kp || edition == edition->subsystem->original)
		return 0;
	parameters = failable(kzalloc(struct_size(parameters, files, owner->num_kp), GFP_KERNEL), NULL);
	if (!parameters)
		return -ENOMEM;
	kobject_init(&parameters->kobj, &parameters_type);
	edition->parameters_dir = &parameters->kobj;
	err = failable(kobject_add(&parameters->kobj, &edition->kobj, "parameters"), -ENOMEM);
	return err ?: files_add(parameters, owner);
}

/* Returns when nobody reads in it any more. */
void parameters_hide(struct edition *edition)
{
	if (!edition->parameters_dir)
		return;
	if (edition->parameters_dir->state_in_sysfs)
		kobject_del(edition->parameters_dir);
	kobject_put(edition->parameters_dir);
	edition->parameters_dir = NULL;
}
