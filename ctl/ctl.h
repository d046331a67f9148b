/* ctl.h - what the commands of tandemctl share: the table of commands, the connections, printing.
 *
 * A command is a file with a `const struct ctl_command`, and a line in the table of main.c. It gets
 * its parsed options, asks the gateway (ctl_call) or Redis (ctl_redis), prints, and returns its exit
 * code. Calls block until the answer has come. One thread.
 *
 * Exit codes, for scripts: 0 success; 1 the answer is no (not found, refused, a violation); 2 wrong
 * usage; 3 Tandem did not answer.
 *
 * Output: tables for people, with --json one JSON value a line; errors go to stderr. Text
 * from outside never reaches a terminal raw (rt_text_shown), and JSON is pure ASCII. */
#ifndef CTL_H
#define CTL_H

#include <argp.h>
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <stdio.h>

#include "base/base.h"
#include "contexts.h"
#include "redis/redis.h"
#include "redis/topology.h"
#include "rpc/json.h"
#include "rpc/rpc.h"

/* The folder of secrets and certificates, where TANDEM_VAR does not say another; in the packages it is a fixed one. */
#ifndef CTL_VAR
#define CTL_VAR "var"
#endif

enum ctl_exit { CTL_OK, CTL_NEGATIVE, CTL_USAGE, CTL_UNAVAILABLE };

/* ---- commands ---- */

struct ctl {
	/* Options that every command takes. */
	const char *gateway;                     /* host:port */
	const char *tls_ca, *tls_cert, *tls_key; /* for gRPC; ca NULL: not encrypted */
	const char *token_file;                  /* NULL: none */
	const char *redis_url, *redis_host, *redis_socket, *redis_user, *redis_password_file;
	const char *sentinel_user, *sentinel_password_file;        /* "": they have no password */
	const char *redis_tls_ca, *redis_tls_cert, *redis_tls_key; /* NULL or "": none */
	bool redis_tls;                                            /* --redis-tls */
	int64_t redis_port, timeout_ms;
	bool json;
	const char *why;      /* --why: why something is changed; NULL: not given */
	const char *for_whom; /* --for: who wanted it; NULL: whoever runs this */
	char *who, *from;     /* who changes it, for the trail; NULL: not known yet (trail.c) */
	/* Opened when first needed. */
	struct rt_loop *loop;
	struct rt_tls *grpc_tls; /* of the channel */
	char *token;             /* NULL: not read yet */
	struct rt_channel *channel;
	ProtobufCService *order, *inventory, *archive; /* clients */
	struct ctl_node **nodes;   /* of Redis; the first is where it was said to be */
	struct ctl_node **of_slot; /* in a cluster: the master of each slot, or NULL; else NULL */
	struct ctl_node *on;       /* commands go there, whatever their key; NULL: to the key */
	struct ctl_node *asked;    /* the last one */
	size_t node_count;
	int partitions;    /* 0: not read yet */
	bool others_known; /* ctl_contexts_read */
	char **others;     /* contexts that are not ours */
	size_t other_count;
	char *password_file;      /* of the user; NULL: not looked for yet; "": none */
	bool sentinel_known;      /* their password file can be read */
	struct rt_redis_tls *tls; /* NULL: none, or not needed yet */
	/* The password file of the user ops, when it cannot be read: then Redis is asked as its
	 * default user, which can read and not write. NULL: it was read, or another user is given. */
	char *ops_password_missing;
	bool denied;       /* a command was refused, because Redis is not asked as ops */
	bool deny_quietly; /* set `denied`, print no message */
};

/* A process of Redis. */
struct ctl_node {
	char *host;          /* or the path of a socket */
	int port;            /* 0: a socket */
	bool listed, master; /* listed: the cluster has it now */
	bool sentinel;
	struct rt_redis *redis;
};

struct ctl_command {
	const char *group, *name;          /* "order", "place"; group NULL: a command of one word */
	const char *about;                 /* one sentence, for the list of commands */
	const char *arguments;             /* what it takes besides options; NULL: nothing */
	const char *text;                  /* what it does; after a \v, examples */
	bool changes;                      /* and enters it in the trail: it takes --why */
	const struct argp_option *options; /* its own; NULL: none */
	argp_parser_t parse;
	size_t options_size; /* of its options struct: zeroed, filled by its parser */
	int (*run)(struct ctl *ctl, void *options);
};
/* In a command's parser: its options struct. */
void *ctl_options(const struct argp_state *state);
/* In a command's parser, at ARGP_KEY_END: --why must have been given. */
void ctl_need_why(struct argp_state *state);

/* ---- the terminal (terminal.c) ---- */

/* "tandemctl: …" on stderr. */
void ctl_error(const char *format, ...) RT_PRINTF(1, 2);
/* What to do about an error by options, for people at a terminal: who asks with --json shows it elsewhere, and gets "". */
const char *ctl_hint(const struct ctl *ctl, const char *hint);

/* Asks at the terminal, on stderr. CTL_OK: the answer is yes; CTL_NEGATIVE: it is no; CTL_USAGE: there
 * is no terminal, which stderr says, with the advice to use --yes. */
int ctl_agree(bool yes, const char *format, ...) RT_PRINTF(2, 3);

/* ---- asking the gateway (connect.c) ---- */

/* The loop, made when it is first needed. */
struct rt_loop *ctl_loop(struct ctl *ctl);
/* Before the first call; ended with rt_rpc_shutdown. */
void ctl_rpc_init(void);
/* How to call `target` on this loop, as the options say: fills in `options`; *ret_tls is freed by the caller after its
 * channel. Ends the program when files cannot be used. */
void ctl_secure(struct ctl *ctl, struct rt_loop *loop, const char *target,
		struct rt_channel_options *options, struct rt_tls **ret_tls);
/* Where the target is several gateways, only those are called from now on that are healthy. Waits until one is, or 2 s. */
void ctl_use_healthy(struct rt_loop *loop, struct rt_channel *channel, const char *target);
/* The address to call for an address to listen on: 127.0.0.1 for 0.0.0.0. Freed by the caller. */
char *ctl_target(const char *listen);
ProtobufCService *ctl_order_service(struct ctl *ctl);
ProtobufCService *ctl_inventory_service(struct ctl *ctl);
ProtobufCService *ctl_archive_service(struct ctl *ctl);
/* A unary call. CTL_OK and *ret (freed with protobuf_c_message_free_unpacked), or an exit code, with
 * the reason on stderr. */
int ctl_call(struct ctl *ctl, ProtobufCService *client, const char *method,
	     const ProtobufCMessage *request, ProtobufCMessage **ret);
/* A call with a streaming answer, without a deadline. `on_message` returns false to end it. */
int ctl_call_stream(struct ctl *ctl, ProtobufCService *client, const char *method,
		    const ProtobufCMessage *request,
		    bool (*on_message)(const ProtobufCMessage *message, void *user), void *user);
/* Reads a list page by page and gives each item to `on_item`, until that does not return CTL_OK. */
struct ctl_list {
	ProtobufCService *client;
	const char *method;
	ProtobufCMessage *request; /* its page_size is set; its page_token: where it begins */
	int64_t items_max;
	int (*on_item)(const ProtobufCMessage *item, void *user);
	void *user;
	/* Out. */
	int64_t count;
	char *next; /* the next page_token, "" at the end; freed by the caller */
};
int ctl_call_list(struct ctl *ctl, struct ctl_list *list);
/* The exit code for a gRPC status code. */
int ctl_exit_of(int code);

/* ---- asking Redis, as the user ops (redis.c) ---- */

/* A command of C strings. The reply is freed with freeReplyObject. NULL: no reply, or an error
 * reply, which is on stderr. */
#define ctl_redis(ctl, ...) ctl_redis_strings(ctl, false, CTL_STRINGS(__VA_ARGS__))
/* The same, but error replies are returned as they are. */
#define ctl_redis_try(ctl, ...) ctl_redis_strings(ctl, true, CTL_STRINGS(__VA_ARGS__))
#define CTL_STRINGS(...)                                                                           \
	(const char *const[]){ __VA_ARGS__ },                                                      \
		sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *)
redisReply *ctl_redis_strings(struct ctl *ctl, bool errors_too, const char *const *strings,
			      size_t count);
/* The same with gathered arguments, which are cleared. timeout_ms 0: as usual. Error replies are
 * returned as they are when `errors_too`. */
redisReply *ctl_redis_args(struct ctl *ctl, struct rt_args *args, int64_t timeout_ms,
			   bool errors_too);
/* The node after this one, NULL: the first; of the masters only, or of all. NULL: there are no more, or Redis
 * could not be asked. One Redis is one master. */
struct ctl_node *ctl_node_next(struct ctl *ctl, const struct ctl_node *after, bool masters);
/* Where it is, for connections of others: after something was asked, with all nodes of a cluster. */
void ctl_redis_url(struct ctl *ctl, struct rt_redis_url *ret);
/* Sets ctl->tls, if connections there use TLS. False: the reason is on stderr. */
bool ctl_tls_open(struct ctl *ctl, const struct rt_redis_url *url);
/* The user as whom Redis is asked; the texts last as long as `ctl`. False: the reason is on stderr. */
bool ctl_redis_login(struct ctl *ctl, struct rt_redis_login *ret);
/* Who asks its sentinels; the texts last as long as `ctl`. False: the reason is on stderr. */
bool ctl_sentinel_login(struct ctl *ctl, struct rt_redis_login *ret);
bool ctl_is_cluster(const struct ctl *ctl);
/* The master of a key's slot; NULL: none serves it. */
struct ctl_node *ctl_node_of_key(const struct ctl *ctl, const char *key);
/* Whether the node that was asked last still answers. */
bool ctl_redis_up(const struct ctl *ctl);
/* How many partitions the data has, from 1 on. 0: Redis could not be asked, or the contexts differ; the
 * reason is on stderr. */
int ctl_partitions(struct ctl *ctl);
/* After ctl_partitions: where an order lies; -1: its id does not say, it may be anywhere. */
int ctl_order_partition(struct ctl *ctl, const char *order_id);
/* A copy that freeReplyObject frees, as hiredis would have made it. */
redisReply *ctl_reply_copy(const redisReply *reply);
/* A command of C strings and, last, the bytes of a string reply: names may hold anything. */
redisReply *ctl_redis_named(struct ctl *ctl, const char *const *strings, size_t count,
			    const redisReply *name);
/* A field of a flat { name, value, … } reply; NULL: not there. */
const redisReply *ctl_named(const redisReply *reply, const char *name);
/* A string reply's text, or `otherwise` for NULL, other replies and bytes that contain a NUL. */
const char *ctl_text(const redisReply *reply, const char *otherwise);
int64_t ctl_number(const redisReply *reply);
/* How many there are of something: 0 to CTL_COUNT_MAX, whatever the reply says. Those of all partitions can be added. */
#define CTL_COUNT_MAX (INT64_C(1) << 48)
int64_t ctl_count(const redisReply *reply);

/* ---- what is changed, and who did it (trail.c) ---- */

struct ctl_deed {
	const char *action;  /* "dead.replay" */
	const char *subject; /* an order, a SKU, a group … */
	const char *about;   /* the result in the trail begins with it; NULL: nothing */
};
/* Begins the call of a function that changes something, which enters that in the trail in the same step; the
 * function's arguments follow. `other`: the second key, or NULL. */
void ctl_operate(struct ctl *ctl, struct rt_args *args, const struct rt_functions *functions,
		 const char *events, const char *other, const struct ctl_deed *deed,
		 const char *function);
/* Sends it; as ctl_redis_args, except that functions that are not loaded are never a reply. */
redisReply *ctl_operate_send(struct ctl *ctl, struct rt_args *args, bool errors_too);
/* Runs a command on a node, and enters it in the trail `key`, which is there: both or neither. False: the reason is
 * on stderr. */
bool ctl_enter_with(struct ctl *ctl, struct ctl_node *node, struct rt_args *command,
		    const char *key, const struct ctl_deed *deed, const char *result);

/* ---- messages and JSON (message.c) ---- */

/* A message as JSON, by its descriptor: field names as in the .proto, enums as their names, 64-bit
 * numbers as numbers, timestamps as RFC 3339, durations as "1.5s", bytes as base64, maps as
 * objects. `defaults`: includes fields without a value. */
json_t *ctl_message_json(const ProtobufCMessage *message, bool defaults);
/* The descriptor of an event's content or of an error's detail, by its full name; NULL: none. */
const ProtobufCMessageDescriptor *ctl_descriptor(const char *type);
/* The full name of event type `i`, counted from 0; NULL: there are no more. */
const char *ctl_event_type(size_t i);
/* "OrderPlaced" for "tandem.order.v1.OrderPlaced". */
const char *ctl_short_type(const char *type);
/* Packed bytes of a `type` as JSON; NULL, and *reterr_why, when they cannot be read as one. */
json_t *ctl_bytes_json(const char *type, const void *data, size_t length, bool defaults,
		       const char **reterr_why);
/* A JSON string. */
json_t *ctl_json_text(const char *text); /* of a terminated text; NULL: null */
/* One line of JSON on stdout; takes `json`. */
void ctl_json_print(json_t *json);
/* For people: appends "a=1 b{c=2} d[x y]", on one line, printable characters only. */
void ctl_json_line(const json_t *json, struct rt_buf *line);
/* For people: a field a line, indented. */
void ctl_json_block(const json_t *json, int indent);

/* ---- tables (table.c) ---- */

/* Rows of columns, aligned when printed. Zeroed memory with `columns` set is a valid empty one. */
struct ctl_table {
	size_t columns;
	const char *const *heading; /* of each; NULL: none */
	char **cells;               /* the heading, then row by row */
	size_t count, capacity;
};
/* An empty one with these headings. */
#define CTL_TABLE(...)                                                                             \
	{                                                                                          \
		.columns = RT_LENGTH(((const char *const[]){ __VA_ARGS__ })),                      \
		.heading = (const char *const[]){ __VA_ARGS__ },                                   \
	}
/* Adds the next cell of the row. Characters that are not printable become \xNN. */
void ctl_cell(struct ctl_table *table, const char *format, ...) RT_PRINTF(2, 3);
/* Prints the table (nothing when it has no row) and empties it. */
void ctl_table_print(struct ctl_table *table);

/* Prints a list: each item as JSON, or as a `row` of the table; then the next page token, or `nothing`
 * when the list is empty. */
struct ctl_list;
int ctl_print_list(struct ctl *ctl, const struct ctl_list *list, struct ctl_table *table,
		   void (*row)(struct ctl_table *table, const ProtobufCMessage *item),
		   const char *nothing);

/* ---- the streams (entry.c) ---- */

/* The contexts, and which of them reads the events of which (contexts.h). */
struct ctl_context {
	const char *name;
	const struct rt_functions *functions; /* of this build */
	const char *listen_variable, *listen; /* where it listens: the variable, or the default */
};
#define CTL_COUNT_CONTEXT(name, NAME) +1
#define CTL_COUNT_READER(reader, of)  +1
enum {
	CTL_CONTEXTS = TANDEM_CONTEXTS(CTL_COUNT_CONTEXT),
	CTL_READERS = TANDEM_READERS(CTL_COUNT_READER),
};
extern const struct ctl_context ctl_contexts[CTL_CONTEXTS];
extern const struct ctl_reader {
	const char *reader, *of;
} ctl_readers[CTL_READERS];
/* NULL: there is none of this name. */
const struct ctl_context *ctl_context_find(const char *name);
/* It only reads: nobody waits for its answers. */
bool ctl_context_follows(const char *name);
/* "order or inventory", for errors; freed by the caller. */
char *ctl_context_names(void);
/* Contexts of others keep keys of their own, too, and each reads in a group of its name, such as webhook: so the groups of
 * our streams, in partition 0, say which there are. A group of a plain reader counts as one; it has no keys. False: Redis
 * could not be asked; the reason is on stderr. */
bool ctl_contexts_read(struct ctl *ctl);
/* After ctl_contexts_read: the names of ours, then of those of others; NULL behind the last. `only`: this one alone, whether
 * it was found or not; NULL: all. */
const char *ctl_context_name(const struct ctl *ctl, const char *only, size_t number);
/* After ctl_contexts_read: whether one is called so. If not, an error says it. */
bool ctl_context_known(const struct ctl *ctl, const char *name);
/* Whether a context may be called so, as scripts/lib/redis-user has it. */
bool ctl_context_may_be(const char *name);
/* The library whose functions operate on its keys. Events.lua is a part of each, and takes the keys from the first one: for
 * contexts of others that of our first context does. */
const struct rt_functions *ctl_functions_of(const char *context);
/* "order:{0}:events" and the like, into `key`. */
#define CTL_KEY 256
void ctl_key(char key[CTL_KEY], const char *context, int partition, const char *rest);
/* The halves of a stream id. False: it is not a stream id. */
bool ctl_stream_id(const char *text, uint64_t *ret_ms, uint64_t *ret_n);
/* The first half as a time, limited to what RFC 3339 can express; 0: it is not a stream id. */
int64_t ctl_stream_id_ms(const char *text);
/* Milliseconds from Redis or a record, limited to between 0 and the year 9999. */
int64_t ctl_ms(int64_t ms);
int ctl_stream_id_compare(const char *a, const char *b);

/* An event of a stream or of the dead letters, as a view of a reply: valid as long as the reply and the
 * arena. Absent fields are "" or 0. All events of an entry have its stream id. */
struct ctl_entry {
	const char *context, *stream_id;
	int partition; /* of its stream */
	size_t index;  /* its position in the entry */
	const char *id, *type, *subject, *seq, *time, *attempt, *traceparent, *tracestate, *actor;
	const char *data;
	size_t data_length;
	/* Of dead letters. */
	const char *stream, *dead_stream_id, *group, *reason, *deliveries, *dead_time, *replayed;
	const redisReply *fields;
};
/* Reads the events of one element of XRANGE's reply. Returns how many; 0: it is not an entry. An entry that
 * is not an event counts as one. */
size_t ctl_entry_read(const redisReply *reply, const char *context, int partition,
		      struct rt_arena *arena, struct ctl_entry **ret);
json_t *ctl_entry_json(const struct ctl *ctl, const struct ctl_entry *entry);
/* How a stream id is shown, and given to commands: "<partition>/<id>" where there are several. */
#define CTL_PLACE 64
void ctl_place(char place[CTL_PLACE], const struct ctl *ctl, int partition, const char *stream_id);
/* The stream id in such a text. *ret_partition: -1: it does not say. NULL: it is not one. */
const char *ctl_place_read(const char *place, int *ret_partition);
/* In a command's parser (contexts.c): --context. Another name is an error, which lists the contexts; with `others_too` one that
 * is not Tandem's is taken. */
const char *ctl_parse_context(struct argp_state *state, const char *name, bool others_too);
/* Likewise: --type. Dead letters may have unknown types: with `full_too` any full name is accepted. */
const char *ctl_parse_type(struct argp_state *state, const char *type, bool full_too);

/* What --order, --type and similar options select. NULL: anything. */
struct ctl_filter {
	const char *order, *type, *reason, *context;
};
bool ctl_filter_passes(const struct ctl_filter *filter, const struct ctl_entry *entry);

/* Entries that were read, with the replies they are views of. Zeroed memory is a valid empty list;
 * several reads may add to one list. */
struct ctl_entries {
	struct ctl_entry *list;
	size_t count, capacity;
	struct ctl_page {
		redisReply *reply;
		struct rt_arena arena;
	} * pages; /* what the list points into */
	size_t page_count;
};
struct ctl_range {
	const char *context, *key;
	int partition;
	const char *from, *to; /* stream ids, or "-" and "+" */
	bool newest_first;
	int64_t count_max;               /* events that pass the filter, at most */
	int64_t scan_max;                /* entries read, at most */
	const struct ctl_filter *filter; /* NULL: all */
};
/* Adds the entries of the range. False: Redis could not be asked (the reason is on stderr).
 * *ret_complete (may be NULL): the range was read to its end. */
bool ctl_entries_read(struct ctl *ctl, const struct ctl_range *range, struct ctl_entries *entries,
		      bool *ret_complete);
/* At most 1000 entries of a key, of an order (or SKU), or NULL: of all. False: Redis failed. */
bool ctl_entries_about(struct ctl *ctl, const char *context, int partition, const char *key,
		       const char *order, struct ctl_entries *entries);
/* Adds an entry that lives elsewhere. */
void ctl_entries_add(struct ctl_entries *entries, const struct ctl_entry *entry);
/* sort.c: by the time of their stream ids; in the same millisecond causes come before their effects. */
void ctl_entries_sort(struct ctl_entries *entries);
void ctl_entries_done(struct ctl_entries *entries);

/* aside.c: an event that its reader has set aside. */
struct ctl_aside {
	const struct ctl_entry *event; /* its context: the reader */
	const struct ctl_entry
		*behind;    /* the event of its subject for which it waits; NULL: it is retried */
	int64_t since_ms;   /* unix */
	int64_t failed;     /* how often */
	char consumer[128]; /* that holds it; "": none */
};
struct ctl_asides {
	struct ctl_entries entries;
	struct ctl_aside *list; /* by reader, the oldest first */
	size_t count;
};
/* At most 1000 per reader; of a partition, or -1: of all; of an order (or SKU), or NULL: of all. False: Redis
 * failed. */
bool ctl_asides_read(struct ctl *ctl, int partition, const char *order, struct ctl_asides *asides);
void ctl_asides_done(struct ctl_asides *asides);
bool ctl_aside_count(struct ctl *ctl, const struct ctl_reader *pair, int partition, int64_t *ret);
/* What it waits for, as a text. Freed by the caller. */
char *ctl_aside_waits(const struct ctl_aside *aside);
/* "inventory:{0}:aside:order". */
void ctl_aside_key(char key[CTL_KEY], const struct ctl_reader *pair, int partition);

/* What XINFO STREAM returns about a stream, copied. */
struct ctl_stream {
	bool exists;
	int64_t length;
	char first[48], last[48], deleted[48]; /* "0-0": none */
};
bool ctl_stream_read(struct ctl *ctl, const char *key, struct ctl_stream *stream);
/* The same, and its consumer groups, which the caller frees; NULL: there is no such stream. */
bool ctl_stream_groups(struct ctl *ctl, const char *key, struct ctl_stream *stream,
		       redisReply **ret);
/* How many events the entries from this stream id on carry ("-": all). -1: Redis could not be asked. */
int64_t ctl_stream_events_from(struct ctl *ctl, const char *key, const struct ctl_stream *stream,
			       const char *from);
/* How many events come after `delivered`: by the numbers in our stream ids where they are exact, else
 * counted, up to 1000. -1: Redis could not be asked. */
int64_t ctl_stream_lag(struct ctl *ctl, const char *key, const struct ctl_stream *stream,
		       const char *delivered);

/* The consumers of a group. */
struct ctl_readers {
	bool group;       /* it exists */
	size_t consumers; /* how many */
	int64_t seen_ms;  /* since the last was seen; -1: never */
};
/* `group` may hold any bytes. False: Redis could not be asked. */
bool ctl_readers_read(struct ctl *ctl, const char *key, const char *group, size_t length,
		      struct ctl_readers *readers);
/* The same, one by one: [{"name", "pending", "seen_ms"}]; empty where Redis could not be asked. */
json_t *ctl_consumers_json(struct ctl *ctl, const char *key, const redisReply *group);
/* How far a group is behind a stream; and the sums of that over all partitions of a context's stream and one of its
 * readers. */
struct ctl_lag {
	int64_t lag, pending, aside, oldest_ms; /* oldest_ms -1: none is pending */
	struct ctl_readers readers;
};
struct ctl_lag_sum {
	const struct ctl_reader *pair;
	int64_t length;
	struct ctl_lag lag;
};
/* events.c. False: something could not be asked, which stderr says. */
bool ctl_lags_read(struct ctl *ctl, struct ctl_lag_sum sums[CTL_READERS]);
/* drain.c: appends a line for each thing that is under way; none: nothing is. False: Redis could not be asked. */
bool ctl_under_way(struct ctl *ctl, struct rt_buf *what);
/* contexts.c: how many dead letters all contexts have, those of others too. False: Redis could not be asked. */
bool ctl_dead_count(struct ctl *ctl, int64_t *ret);

/* ---- the versions of a context's Redis functions, as Redis knows them (functions.c) ---- */

#define CTL_ABSENT_MS                                                                              \
	15000 /* a consumer not seen for so long has ended: reads wait for 5 s at most */
#define CTL_VERSIONS_MAX 64

struct ctl_version {
	char version[32];
	bool loaded;     /* its library is in Redis, on every master */
	int nodes;       /* masters that have it */
	bool own;        /* this tandemctl was built with it */
	int instances;   /* that run and call it */
	int64_t seen_ms; /* since the last of them was seen; -1: never */
};
struct ctl_versions {
	const char *context;
	struct ctl_version list[CTL_VERSIONS_MAX];
	size_t count;
};
/* The versions that are loaded or that an instance calls. False: Redis could not be asked. */
bool ctl_versions_read(struct ctl *ctl, const char *context, struct ctl_versions *versions);

/* "850 ms", "12.3 s", "4 min", "2.1 h", "3.4 d". */
#define CTL_AGE 24
void ctl_age(char text[CTL_AGE], int64_t ms);
/* Unix ms by Redis's clock, which decides about orders; by this machine's until Redis was first asked. */
int64_t ctl_now_ms(struct ctl *ctl);

#endif
