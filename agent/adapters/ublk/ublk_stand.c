#include "agent/adapters/ublk/ublk_stand.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ublk_stand *stand_from(struct ferry_commands *port)
{
	return FERRY_CONTAINER_OF(port, struct ublk_stand, commands);
}

static void complete(struct ublk_stand *stand, struct ferry_command *command, int result)
{
	ferry_assert(stand->pending_count < UBLK_STAND_PENDING_MAX);
	stand->pending[stand->pending_count].command = command;
	stand->pending[stand->pending_count++].result = result;
	if (!ferry_timer_is_started(&stand->timer))
		ferry_timer_start_in(stand->loop, &stand->timer, 0);
}

static void on_timer(struct ferry_timer *timer)
{
	struct ublk_stand *stand = FERRY_CONTAINER_OF(timer, struct ublk_stand, timer);
	uint32_t count = stand->pending_count;
	struct {
		struct ferry_command *command;
		int result;
	} batch[UBLK_STAND_PENDING_MAX];

	memcpy(batch, stand->pending, sizeof(batch));
	stand->pending_count = 0;
	for (uint32_t i = 0; i < count; i++)
		batch[i].command->run(batch[i].command, batch[i].result);
}

static struct ublk_stand_device *device_of(struct ublk_stand *stand, uint32_t id)
{
	return id < UBLK_STAND_DEVICES && stand->devices[id].is_there ? &stand->devices[id] : NULL;
}

static void path_of(const struct ublk_stand *stand, uint32_t id, char ret[96])
{
	(void)snprintf(ret, 96, "%s/ublkc%u", stand->folder, id);
}

/* ---- The queue. ---- */

static int stand_reserve(struct ferry_commands *port, uint32_t count)
{
	stand_from(port)->reserved_count += count;
	return 0;
}

static void stand_unreserve(struct ferry_commands *port, uint32_t count)
{
	ferry_assert(count <= stand_from(port)->reserved_count);
	stand_from(port)->reserved_count -= count;
}

static struct ublk_stand_device *device_of_fd(struct ublk_stand *stand, int fd)
{
	char link[32], target[96] = "", path[96];

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ferry_assert(readlink(link, target, sizeof(target) - 1) > 0);
	for (uint32_t id = 0; id < UBLK_STAND_DEVICES; id++) {
		path_of(stand, id, path);
		if (stand->devices[id].is_there && strcmp(path, target) == 0)
			return &stand->devices[id];
	}
	return NULL;
}

static void stand_submit(struct ferry_commands *port, struct ferry_command *command)
{
	struct ublk_stand *stand = stand_from(port);
	struct ublk_stand_device *device = device_of_fd(stand, command->fd);
	struct ublk_stand_slot *slot;
	struct ublksrv_io_cmd words;

	memcpy(&words, command->payload, sizeof(words));
	if (stand->fail_code == command->code || !device) {
		complete(stand, command, device ? stand->fail_result : -ENODEV);
		return;
	}
	ferry_assert(words.q_id == 0 && words.tag < FERRY_UBLK_DEPTH && words.addr == 0);
	slot = &device->slots[words.tag];
	ferry_assert(!slot->fetch);
	if (command->code == UBLK_U_IO_COMMIT_AND_FETCH_REQ) {
		ferry_assert(slot->is_asked);
		slot->is_asked = false;
		slot->is_answered = true;
		slot->result = words.result;
	} else {
		ferry_assert(command->code == UBLK_U_IO_FETCH_REQ);
	}
	slot->fetch = command;
}

static bool is_offered(const struct ublk_stand_device *device)
{
	for (uint32_t i = 0; i < FERRY_UBLK_DEPTH; i++)
		if (!device->slots[i].fetch)
			return false;
	return true;
}

static void request_hand(struct ublk_stand *stand, struct ublk_stand_slot *slot)
{
	struct ferry_command *fetch = TAKE_PTR(slot->fetch);

	ferry_assert(fetch);
	complete(stand, fetch, UBLK_IO_RES_OK);
}

void ublk_stand_ask(struct ublk_stand *stand, uint32_t id, uint32_t tag, uint32_t op_flags,
		    uint64_t start_sector, uint32_t nr_sectors)
{
	struct ublk_stand_device *device = device_of(stand, id);
	struct ublksrv_io_desc desc = {
		.op_flags = op_flags, .nr_sectors = nr_sectors, .start_sector = start_sector};
	off_t offset = (off_t)(tag * sizeof(desc));

	ferry_assert(device && !device->slots[tag].is_asked);
	ferry_assert(pwrite(device->fd, &desc, sizeof(desc), offset) == sizeof(desc));
	device->slots[tag].is_asked = true;
	device->slots[tag].is_answered = false;
	if (device->slots[tag].fetch) /* Else the next server gets it. */
		request_hand(stand, &device->slots[tag]);
}

void ublk_stand_data_write(struct ublk_stand *stand, uint32_t id, uint32_t tag, const void *from,
			   size_t length_bytes)
{
	ferry_assert(id < UBLK_STAND_DEVICES && stand->devices[id].is_there);
	ferry_assert(pwrite(stand->devices[id].fd, from, length_bytes,
			    (off_t)ublk_data_offset(tag)) == (ssize_t)length_bytes);
}

void ublk_stand_data_read(struct ublk_stand *stand, uint32_t id, uint32_t tag, void *to,
			  size_t length_bytes)
{
	ferry_assert(id < UBLK_STAND_DEVICES && stand->devices[id].is_there);
	ferry_assert(pread(stand->devices[id].fd, to, length_bytes, (off_t)ublk_data_offset(tag)) ==
		     (ssize_t)length_bytes);
}

void ublk_stand_server_died(struct ublk_stand *stand)
{
	for (uint32_t id = 0; id < UBLK_STAND_DEVICES; id++) {
		struct ublk_stand_device *device = &stand->devices[id];

		for (uint32_t i = 0; device->is_there && i < FERRY_UBLK_DEPTH; i++)
			device->slots[i].fetch = NULL;
		if (device->is_there && device->info.state == UBLK_S_DEV_LIVE)
			device->info.state = UBLK_S_DEV_QUIESCED;
	}
	ferry_timer_stop(stand->loop, &stand->timer);
	stand->pending_count = 0;
}

/* ---- Control commands. ---- */

static int device_add(struct ublk_stand *stand, struct ublksrv_ctrl_dev_info *info)
{
	char path[96];
	uint32_t id = 0;

	while (id < UBLK_STAND_DEVICES && stand->devices[id].is_there)
		id++;
	ferry_assert(id < UBLK_STAND_DEVICES && info->queue_depth == FERRY_UBLK_DEPTH);
	path_of(stand, id, path);
	stand->devices[id] = (struct ublk_stand_device){.is_there = true, .info = *info};
	stand->devices[id].fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ferry_assert(stand->devices[id].fd >= 0);
	ferry_assert(ftruncate(stand->devices[id].fd, (off_t)ublk_data_offset(FERRY_UBLK_DEPTH)) ==
		     0);
	stand->devices[id].info.dev_id = id;
	stand->devices[id].info.state = UBLK_S_DEV_DEAD;
	*info = stand->devices[id].info;
	return 0;
}

static int device_delete(struct ublk_stand *stand, struct ublk_stand_device *device)
{
	char path[96];

	path_of(stand, device->info.dev_id, path);
	ferry_assert(unlink(path) == 0 && close(device->fd) == 0);
	device->is_there = false;
	return 0;
}

static void device_stop(struct ublk_stand *stand, struct ublk_stand_device *device)
{
	for (uint32_t i = 0; i < FERRY_UBLK_DEPTH; i++) {
		struct ferry_command *fetch = TAKE_PTR(device->slots[i].fetch);

		if (fetch)
			complete(stand, fetch, UBLK_IO_RES_ABORT);
	}
	device->info.state = UBLK_S_DEV_DEAD;
}

static int recovery_start(struct ublk_stand_device *device)
{
	if (device->info.state != UBLK_S_DEV_QUIESCED || device->busy_count > 0) {
		device->busy_count -= device->busy_count > 0;
		return -EBUSY;
	}
	return 0;
}

/* START_DEV and END_USER_RECOVERY, which asks again for what is unanswered. */
static int device_serve(struct ublk_stand *stand, struct ublk_stand_device *device, uint64_t pid)
{
	ferry_assert(
		is_offered(device)); /* The kernel would wait for it, and the server for that. */
	ferry_assert(pid == (uint64_t)getpid());
	device->recoveries += device->info.state == UBLK_S_DEV_QUIESCED;
	device->info.state = UBLK_S_DEV_LIVE;
	for (uint32_t i = 0; i < FERRY_UBLK_DEPTH; i++)
		if (device->slots[i].is_asked)
			request_hand(stand, &device->slots[i]);
	return 0;
}

static char letter_of(uint32_t code)
{
	return code == UBLK_U_CMD_ADD_DEV		? 'A'
	       : code == UBLK_U_CMD_SET_PARAMS		? 'P'
	       : code == UBLK_U_CMD_GET_PARAMS		? 'p'
	       : code == UBLK_U_CMD_GET_DEV_INFO	? 'i'
	       : code == UBLK_U_CMD_START_DEV		? 'S'
	       : code == UBLK_U_CMD_STOP_DEV		? 'X'
	       : code == UBLK_U_CMD_DEL_DEV_ASYNC	? 'D'
	       : code == UBLK_U_CMD_START_USER_RECOVERY ? 'R'
	       : code == UBLK_U_CMD_END_USER_RECOVERY	? 'E'
							: '?';
}

static int control_do(struct ublk_stand *stand, uint32_t code, const struct ublksrv_ctrl_cmd *words)
{
	struct ublk_stand_device *device = device_of(stand, words->dev_id);
	void *buffer = (void *)(uintptr_t)words->addr; /* As the kernel sees it. */

	ferry_assert(words->queue_id == UINT16_MAX);
	if (code == UBLK_U_CMD_ADD_DEV)
		return device_add(stand, buffer);
	if (!device)
		return -ENODEV;
	if (code == UBLK_U_CMD_GET_DEV_INFO)
		memcpy(buffer, &device->info, sizeof(device->info));
	else if (code == UBLK_U_CMD_SET_PARAMS)
		memcpy(&device->params, buffer, sizeof(device->params));
	else if (code == UBLK_U_CMD_GET_PARAMS)
		memcpy(buffer, &device->params, sizeof(device->params));
	else if (code == UBLK_U_CMD_DEL_DEV_ASYNC)
		return device_delete(stand, device);
	else if (code == UBLK_U_CMD_START_USER_RECOVERY)
		return recovery_start(device);
	else
		return device_serve(stand, device, words->data[0]);
	return 0;
}

static int stand_control(struct ferry_commands *port, struct ferry_command *command)
{
	struct ublk_stand *stand = stand_from(port);
	size_t length = strlen(stand->trace);
	struct ublksrv_ctrl_cmd words;

	memcpy(&words, command->payload, sizeof(words));
	ferry_assert(length + 1 < sizeof(stand->trace));
	stand->trace[length] = letter_of(command->code);
	if (command->code == UBLK_U_CMD_STOP_DEV && device_of(stand, words.dev_id)) {
		complete(stand, command, 0); /* Its slots may be late. */
		device_stop(stand, &stand->devices[words.dev_id]);
		return 0;
	}
	complete(stand, command,
		 stand->fail_code == command->code ? stand->fail_result
						   : control_do(stand, command->code, &words));
	return 0;
}

static const struct ferry_commands_ops stand_ops = {
	.reserve = stand_reserve,
	.unreserve = stand_unreserve,
	.submit = stand_submit,
	.control = stand_control,
};

/* A child that waits for our end, whichever it is, and leaves nothing of the folder. */
static void sweeper_start(struct ublk_stand *stand)
{
	int ends[2];
	char byte;
	pid_t pid;

	ferry_assert(pipe2(ends, O_CLOEXEC) == 0);
	pid = fork();
	ferry_assert(pid >= 0);
	if (pid == 0) {
		(void)setsid(); /* A signal to the test's group is none for it. */
		if (dup2(ends[0], STDIN_FILENO) < 0 || close_range(3, UINT_MAX, 0) < 0 ||
		    read(STDIN_FILENO, &byte, 1) != 0)
			_exit(1);
		(void)execlp("rm", "rm", "-rf", "--", stand->folder, NULL);
		_exit(1);
	}
	(void)close(ends[0]);
	stand->sweeper_fd = ends[1];
	stand->sweeper_pid = pid;
}

void ublk_stand_init(struct ublk_stand *stand, struct ferry_loop *loop)
{
	char path[96];
	int fd;

	memset(stand, 0, sizeof(*stand));
	stand->commands.ops = &stand_ops;
	stand->loop = loop;
	stand->timer.run = on_timer;
	(void)snprintf(stand->folder, sizeof(stand->folder), "/tmp/ferry-ublk-XXXXXX");
	ferry_assert(mkdtemp(stand->folder));
	(void)snprintf(path, sizeof(path), "%s/ublk-control", stand->folder);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ferry_assert(fd >= 0 && close(fd) == 0);
	sweeper_start(stand);
}

void ublk_stand_done(struct ublk_stand *stand)
{
	ferry_timer_stop(stand->loop, &stand->timer);
	for (uint32_t id = 0; id < UBLK_STAND_DEVICES; id++)
		if (stand->devices[id].is_there)
			(void)device_delete(stand, &stand->devices[id]);
	(void)close(stand->sweeper_fd);
	ferry_assert(waitpid(stand->sweeper_pid, NULL, 0) == stand->sweeper_pid);
	ferry_assert(access(stand->folder, F_OK) < 0);
}
