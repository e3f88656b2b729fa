/* netlink.c - the driver's commands: generic netlink, one socket for each. */
#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>

#include "agent/adapters/nbddev/private.h"

struct answer {
	bool has_come;
	int error;
	bool has_index;
	uint32_t index;
};

static void socket_freep(struct nl_sock **socket)
{
	if (*socket)
		nl_socket_free(*socket);
}

static void message_freep(struct nl_msg **message)
{
	if (*message)
		nlmsg_free(*message);
}

/* ---- The answer. ---- */

static int on_message(struct nl_msg *message, void *context)
{
	struct nlattr *attributes[NBD_ATTR_MAX + 1];
	struct answer *answer = context;

	if (genlmsg_parse(nlmsg_hdr(message), 0, attributes, NBD_ATTR_MAX, NULL) < 0 ||
	    !attributes[NBD_ATTR_INDEX] || nla_len(attributes[NBD_ATTR_INDEX]) < 4)
		return NL_OK;
	answer->has_index = true;
	answer->index = nla_get_u32(attributes[NBD_ATTR_INDEX]);
	return NL_OK;
}

static int on_end(struct nl_msg *message, void *context)
{
	struct answer *answer = context;

	(void)message;
	answer->has_come = true;
	return NL_STOP;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *context)
{
	struct answer *answer = context;

	(void)from;
	answer->has_come = true;
	answer->error = error->error;
	return NL_STOP;
}

static int answer_get(struct nl_sock *socket, struct answer *answer)
{
	if (nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, on_message, answer) < 0 ||
	    nl_socket_modify_cb(socket, NL_CB_ACK, NL_CB_CUSTOM, on_end, answer) < 0 ||
	    nl_socket_modify_err_cb(socket, NL_CB_CUSTOM, on_error, answer) < 0)
		return -EIO;
	while (!answer->has_come)
		if (nl_recvmsgs_default(socket) < 0 && !answer->has_come)
			return -EIO;
	return answer->error;
}

/* ---- Commands. ---- */

static int command_begin(uint8_t command, struct nl_sock **ret_socket, struct nl_msg **ret)
{
	_cleanup_(socket_freep) struct nl_sock *socket = nl_socket_alloc();
	_cleanup_(message_freep) struct nl_msg *message = nlmsg_alloc();
	int family;

	if (!socket || !message)
		return -ENOMEM;
	if (genl_connect(socket) < 0)
		return -ENODEV;
	family = genl_ctrl_resolve(socket, NBD_GENL_FAMILY_NAME);
	if (family < 0)
		return -ENODEV;
	if (!genlmsg_put(message, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, command,
			 NBD_GENL_VERSION))
		return -ENOMEM;
	*ret_socket = TAKE_PTR(socket);
	*ret = TAKE_PTR(message);
	return 0;
}

static int socket_put(struct nl_msg *message, int fd)
{
	struct nlattr *sockets = nla_nest_start(message, NBD_ATTR_SOCKETS | NLA_F_NESTED);
	struct nlattr *item =
		sockets ? nla_nest_start(message, NBD_SOCK_ITEM | NLA_F_NESTED) : NULL;

	ferry_assert(fd >= 0);
	if (!item || nla_put_u32(message, NBD_SOCK_FD, (uint32_t)fd) < 0)
		return -ENOMEM;
	(void)nla_nest_end(message, item); /* Always 0. */
	(void)nla_nest_end(message, sockets);
	return 0;
}

static int netlink_connect(const char *identity, int fd, const struct ferry_nbddev_shape *shape,
			   uint32_t *ret_index)
{
	_cleanup_(socket_freep) struct nl_sock *socket = NULL;
	_cleanup_(message_freep) struct nl_msg *message = NULL;
	struct answer answer = {0};
	int r = command_begin(NBD_CMD_CONNECT, &socket, &message);

	if (r < 0)
		return r;
	if (nla_put_u64(message, NBD_ATTR_SIZE_BYTES, shape->size_bytes) < 0 ||
	    nla_put_u64(message, NBD_ATTR_BLOCK_SIZE_BYTES, shape->block_bytes) < 0 ||
	    nla_put_u64(message, NBD_ATTR_SERVER_FLAGS, shape->flags) < 0 ||
	    nla_put_u64(message, NBD_ATTR_CLIENT_FLAGS, 0) < 0 ||
	    nla_put_u64(message, NBD_ATTR_TIMEOUT, 0) < 0 ||
	    nla_put_u64(message, NBD_ATTR_DEAD_CONN_TIMEOUT, shape->hold_s) < 0 ||
	    nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, identity) < 0 ||
	    socket_put(message, fd) < 0)
		return -ENOMEM;
	if (nl_send_auto(socket, message) < 0)
		return -EIO;
	r = answer_get(socket, &answer);
	if (r < 0)
		return r;
	if (!answer.has_index)
		return -EPROTO;
	*ret_index = answer.index;
	return 0;
}

static int netlink_reconnect(const char *identity, uint32_t index, int fd)
{
	_cleanup_(socket_freep) struct nl_sock *socket = NULL;
	_cleanup_(message_freep) struct nl_msg *message = NULL;
	struct answer answer = {0};
	int r = command_begin(NBD_CMD_RECONFIGURE, &socket, &message);

	if (r < 0)
		return r;
	if (nla_put_u32(message, NBD_ATTR_INDEX, index) < 0 ||
	    nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, identity) < 0 ||
	    socket_put(message, fd) < 0)
		return -ENOMEM;
	if (nl_send_auto(socket, message) < 0)
		return -EIO;
	return answer_get(socket, &answer);
}

static int netlink_disconnect(uint32_t index)
{
	_cleanup_(socket_freep) struct nl_sock *socket = NULL;
	_cleanup_(message_freep) struct nl_msg *message = NULL;
	struct answer answer = {0};
	int r = command_begin(NBD_CMD_DISCONNECT, &socket, &message);

	if (r < 0)
		return r;
	if (nla_put_u32(message, NBD_ATTR_INDEX, index) < 0)
		return -ENOMEM;
	if (nl_send_auto(socket, message) < 0)
		return -EIO;
	return answer_get(socket, &answer);
}

const struct nbddev_kernel nbddev_netlink = {
	.sys_block = "/sys/block",
	.dev = "/dev",
	.connect = netlink_connect,
	.reconnect = netlink_reconnect,
	.disconnect = netlink_disconnect,
};
