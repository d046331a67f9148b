/* ctl.h - what the commands of tandemctl share: the table of commands, the connections, printing.
 *
 * A command is a file with a `const struct ctl_command`, and a line in the table of main.c. It gets
 * its parsed options, asks the gateway (ctl_call) or Redis (ctl_redis), prints, and returns how it
 * ended. Everything waits here: a tool has nothing else to do. One thread.
 *
 * Exit codes, for scripts: 0 fine; 1 the answer is no (not found, refused, a violation); 2 used
 * wrongly; 3 the system could not be asked.
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
#include "rpc/rpc.h"

enum ctl_exit { CTL_OK, CTL_NEGATIVE, CTL_USAGE, CTL_UNAVAILABLE };

/* ---- commands ---- */

struct ctl {
	/* Options that every command takes. */
	const char *gateway; /* host:port */
	const char *redis_host, *redis_socket, *redis_user, *redis_password_file;
	int64_t redis_port, timeout_ms;
	bool json;
	/* Made when first needed. */
	struct rt_loop *loop;
	struct rt_channel *channel;
	ProtobufCService *order, *inventory; /* clients */
	struct rt_redis *redis;
	char *redis_password;
	/* The file of the user ops that could not be read, so that Redis is asked as its default user,
	 * who may look and change nothing; NULL: it was, or another user was given. */
	char *ops_password_missing;
	bool denied;       /* a command was refused for want of that right */
	bool deny_quietly; /* `denied` is enough: no message */
};

struct ctl_command {
	const char *group, *name;          /* "order", "place"; group NULL: a command of one word */
	const char *about;                 /* one sentence, for the list of commands */
	const char *arguments;             /* what it takes beside options; NULL: nothing */
	const char *text;                  /* what it does, and behind a \v examples */
	const struct argp_option *options; /* its own; NULL: none */
	argp_parser_t parse;
	size_t options_size; /* of its options struct: zeroed, filled by its parser */
	int (*run)(struct ctl *ctl, void *options);
};
/* In a command's parser: its options struct. */
void *ctl_options(const struct argp_state *state);

/* ---- the terminal (terminal.c) ---- */

/* "tandemctl: …" on stderr. */
void ctl_error(const char *format, ...) RT_PRINTF(1, 2);

/* Asks the person at the terminal, on stderr. CTL_OK: go on; CTL_NEGATIVE: they said no; CTL_USAGE:
 * there is no terminal; stderr says so, and to use --yes. */
int ctl_agree(bool yes, const char *format, ...) RT_PRINTF(2, 3);

/* ---- asking the gateway (connect.c) ---- */

/* The loop, made when it is first needed. */
struct rt_loop *ctl_loop(struct ctl *ctl);
/* Before the first call; ended with rt_rpc_shutdown. */
void ctl_rpc_init(void);
/* Where to call what listens there: nobody can call 0.0.0.0. Freed by the caller. */
char *ctl_target(const char *listen);
ProtobufCService *ctl_order_service(struct ctl *ctl);
ProtobufCService *ctl_inventory_service(struct ctl *ctl);
/* A unary call. CTL_OK and *ret (freed with protobuf_c_message_free_unpacked), or the reason on
 * stderr and the exit code for it. */
int ctl_call(struct ctl *ctl, ProtobufCService *client, const char *method,
	     const ProtobufCMessage *request, ProtobufCMessage **ret);
/* A call with a streaming answer, without a deadline. `on_message` returns false to end it. */
int ctl_call_stream(struct ctl *ctl, ProtobufCService *client, const char *method,
		    const ProtobufCMessage *request,
		    bool (*on_message)(const ProtobufCMessage *message, void *user), void *user);
/* A list, page by page: each of its items goes to `on_item`, until that does not return CTL_OK. */
struct ctl_list {
	ProtobufCService *client;
	const char *method;
	ProtobufCMessage *request; /* its page_size is set; its page_token: where it begins */
	int64_t items_max;
	int (*on_item)(const ProtobufCMessage *item, void *user);
	void *user;
	/* Out. */
	int64_t count;
	char *next; /* the page_token to go on with, "" at the end; freed by the caller */
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
/* A copy that freeReplyObject frees, as hiredis would have made it. */
redisReply *ctl_reply_copy(const redisReply *reply);
/* A command of C strings and, last, the bytes of a string reply: names may hold anything. */
redisReply *ctl_redis_named(struct ctl *ctl, const char *const *strings, size_t count,
			    const redisReply *name);
/* A field of a flat { name, value, … } reply; NULL: not there. */
const redisReply *ctl_named(const redisReply *reply, const char *name);
/* A string reply's text, or `otherwise` when it is NULL or none: bytes with a NUL are no text. */
const char *ctl_text(const redisReply *reply, const char *otherwise);
int64_t ctl_number(const redisReply *reply);

/* ---- messages and JSON (message.c) ---- */

/* A message as JSON, by its descriptor: field names as in the .proto, enums as their names, 64-bit
 * numbers as numbers, timestamps as RFC 3339, durations as "1.5s", bytes as base64, maps as
 * objects. `defaults`: fields without a value are there, too. */
json_t *ctl_message_json(const ProtobufCMessage *message, bool defaults);
/* The descriptor of an event's content or of an error's detail, by its full name; NULL: none. */
const ProtobufCMessageDescriptor *ctl_descriptor(const char *type);
/* The full names of the events there are, for i = 0 and on; NULL: no more. */
const char *ctl_event_type(size_t i);
/* "OrderPlaced" for "tandem.order.v1.OrderPlaced". */
const char *ctl_short_type(const char *type);
/* Packed bytes of a `type` as JSON; NULL, and *reterr_why, when they cannot be read as one. */
json_t *ctl_bytes_json(const char *type, const void *data, size_t length, bool defaults,
		       const char **reterr_why);
/* A string that is made valid first: what is not UTF-8 becomes \xNN. */
json_t *ctl_json_string(const char *text, size_t length);
json_t *ctl_json_text(const char *text); /* the same of a terminated one; NULL: null */
/* One line of JSON on stdout; takes `json`. */
void ctl_json_print(json_t *json);
/* For people: "a=1 b{c=2} d[x y]" on one line, appended; nothing but printable characters. */
void ctl_json_line(const json_t *json, struct rt_buf *line);
/* For people: a field a line, indented. */
void ctl_json_block(const json_t *json, int indent);

/* ---- tables (table.c) ---- */

/* Rows of columns, aligned when printed. Zeroed memory with `columns` set is a valid empty one. */
struct ctl_table {
	size_t columns;
	const char *const *heading; /* of each; NULL: none */
	char **cells;               /* row by row, behind the heading */
	size_t count, capacity;
};
/* An empty one with these headings. */
#define CTL_TABLE(...)                                                                             \
	{                                                                                          \
		.columns = RT_LENGTH(((const char *const[]){ __VA_ARGS__ })),                      \
		.heading = (const char *const[]){ __VA_ARGS__ },                                   \
	}
/* One cell: the next of the row. Characters that are not printable become \xNN. */
void ctl_cell(struct ctl_table *table, const char *format, ...) RT_PRINTF(2, 3);
/* Prints (nothing when there is no row) and empties. */
void ctl_table_print(struct ctl_table *table);

/* Prints a list: each item as JSON, or as a `row` of the table. Then where it goes on; or `nothing`, when
 * it is empty. */
struct ctl_list;
int ctl_print_list(struct ctl *ctl, const struct ctl_list *list, struct ctl_table *table,
		   void (*row)(struct ctl_table *table, const ProtobufCMessage *item),
		   const char *nothing);

/* ---- the streams (entry.c) ---- */

/* The contexts, and who reads whose events (contexts.h). */
struct ctl_context {
	const char *name;
	const struct rt_functions *functions; /* of this build */
	const char *listen_variable, *listen; /* where it listens; unless the variable says so */
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
/* "order or inventory", for errors; freed by the caller. */
char *ctl_context_names(void);
/* "order:{0}:events" and the like, into `key`. */
#define CTL_KEY 256
void ctl_key(char key[CTL_KEY], const char *context, const char *rest);
/* The halves of a stream id. False: it is none. */
bool ctl_stream_id(const char *text, uint64_t *ret_ms, uint64_t *ret_n);
/* The first half as a time; 0: it is no id. Within what RFC 3339 can say, as every time here is. */
int64_t ctl_stream_id_ms(const char *text);
/* Milliseconds that Redis or a record gave, put between 0 and the year 9999. */
int64_t ctl_ms(int64_t ms);
int ctl_stream_id_compare(const char *a, const char *b);

/* An entry of an events stream or of the dead letters, as a view of a reply: valid while the
 * reply is. Absent fields are "" or 0. */
struct ctl_entry {
	const char *context, *stream_id;
	const char *id, *type, *subject, *seq, *time, *attempt, *traceparent;
	const char *data;
	size_t data_length;
	/* Of dead letters. */
	const char *stream, *dead_stream_id, *group, *reason, *deliveries, *dead_time, *replayed;
	const redisReply *fields;
};
/* Reads one element of XRANGE's reply. False: it does not look like one. */
bool ctl_entry_read(const redisReply *reply, const char *context, struct ctl_entry *entry);
json_t *ctl_entry_json(const struct ctl_entry *entry);
/* In a command's parser: --type. An error that lists the types when there is none of this name. Dead
 * letters may be of types that nobody here knows: `full_too` takes any full name. */
const char *ctl_parse_type(struct argp_state *state, const char *type, bool full_too);

/* What --order and --type and the like let through. NULL: anything. */
struct ctl_filter {
	const char *order, *type, *reason, *context;
};
bool ctl_filter_passes(const struct ctl_filter *filter, const struct ctl_entry *entry);

/* Entries that were read, with the replies they are views of. Zeroed memory is a valid empty one;
 * may be read into several times. */
struct ctl_entries {
	struct ctl_entry *list;
	size_t count, capacity;
	redisReply **replies;
	size_t reply_count;
};
struct ctl_range {
	const char *context, *key;
	const char *from, *to; /* stream ids, or "-" and "+" */
	bool newest_first;
	int64_t count_max;               /* that pass the filter */
	int64_t scan_max;                /* that are looked at */
	const struct ctl_filter *filter; /* NULL: all */
};
/* Adds what lies in the range. False: Redis could not be asked (the reason is on stderr).
 * *ret_complete (may be NULL): the range was seen to its end. */
bool ctl_entries_read(struct ctl *ctl, const struct ctl_range *range, struct ctl_entries *entries,
		      bool *ret_complete);
void ctl_entries_sort(struct ctl_entries *entries); /* by stream id */
void ctl_entries_done(struct ctl_entries *entries);

/* What XINFO STREAM returns about a stream, copied. */
struct ctl_stream {
	bool exists;
	int64_t length;
	char first[48], last[48], deleted[48]; /* "0-0": none */
};
bool ctl_stream_read(struct ctl *ctl, const char *key, struct ctl_stream *stream);
/* Entries behind what was delivered, by our own numbers where they are exact; else counted, up to
 * 1000. -1: Redis could not be asked. */
int64_t ctl_stream_lag(struct ctl *ctl, const char *key, const struct ctl_stream *stream,
		       const char *delivered);

/* Who reads a stream: a group's consumers. */
struct ctl_readers {
	bool group;       /* there is one */
	size_t consumers; /* in it */
	int64_t seen_ms;  /* since one was seen; -1: never */
};
/* `group` may hold any bytes. False: Redis could not be asked. */
bool ctl_readers_read(struct ctl *ctl, const char *key, const char *group, size_t length,
		      struct ctl_readers *readers);
/* The dead letters of all contexts. False: Redis could not be asked. */
bool ctl_dead_count(struct ctl *ctl, int64_t *ret);

/* ---- the versions of a context's Redis functions, as Redis knows them (functions.c) ---- */

#define CTL_ABSENT_MS                                                                              \
	15000 /* a consumer that was not seen for so long is not there: reads wait for 5 s at most */
#define CTL_VERSIONS_MAX 64

struct ctl_version {
	char version[32];
	bool loaded;     /* its library is */
	bool own;        /* it is what this tandemctl was built with */
	int instances;   /* that call it and are there */
	int64_t seen_ms; /* ago, one of them; -1: never */
};
struct ctl_versions {
	const char *context;
	struct ctl_version list[CTL_VERSIONS_MAX];
	size_t count;
};
/* Those that are loaded, or that some instance calls. False: Redis could not be asked. */
bool ctl_versions_read(struct ctl *ctl, const char *context, struct ctl_versions *versions);

/* "850 ms", "12.3 s", "4 min", "2.1 h", "3.4 d". */
#define CTL_AGE 24
void ctl_age(char text[CTL_AGE], int64_t ms);
/* Unix ms by Redis's clock, which decides about orders, once Redis was asked something; until then by
 * this machine's. */
int64_t ctl_now_ms(struct ctl *ctl);

#endif
