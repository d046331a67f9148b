/* descriptors.c - what the .proto files say, from the FileDescriptorSet embedded at build time:
 * which methods stream, and the files themselves for reflection.
 *
 * protobuf-c keeps neither in its own descriptors. The set is read once, when first asked, into
 * two sorted tables that live as long as the process; the files' bytes are not copied. */
#include <google/protobuf/descriptor.pb-c.h>
#include <pthread.h>
#include <string.h>

#include "call_internal.h"

struct named_file {
	char *name;
	struct rpc_file file;
};
struct symbol {
	char *name; /* "tandem.order.v1.OrderService.PlaceOrder" */
	size_t file;
	bool client_streams, server_streams; /* of methods */
};
static struct {
	struct named_file *files;
	struct symbol *symbols;
	size_t file_count, symbol_count, symbol_capacity;
} all;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct symbol *add_symbol(size_t file, const char *scope, const char *name)
{
	struct symbol *symbol;

	if (all.symbol_count == all.symbol_capacity) {
		all.symbol_capacity = all.symbol_capacity * 2 + 64;
		all.symbols = rt_realloc(all.symbols, all.symbol_capacity * sizeof(*all.symbols));
	}
	symbol = &all.symbols[all.symbol_count++];
	*symbol = (struct symbol){ .file = file };
	symbol->name = rt_printf("%s%s%s", scope, scope[0] != '\0' ? "." : "", name);
	return symbol;
}

static void add_message(size_t file, const char *scope,
			const Google__Protobuf__DescriptorProto *message)
{
	/* By value: the table moves when it grows. */
	char *name = add_symbol(file, scope, message->name)->name;

	for (size_t i = 0; i < message->n_enum_type; i++)
		add_symbol(file, name, message->enum_type[i]->name);
	for (size_t i = 0; i < message->n_nested_type; i++)
		add_message(file, name, message->nested_type[i]);
}

static void add_service(size_t file, const char *scope,
			const Google__Protobuf__ServiceDescriptorProto *service)
{
	char *name = add_symbol(file, scope, service->name)->name;

	for (size_t i = 0; i < service->n_method; i++) {
		const Google__Protobuf__MethodDescriptorProto *method = service->method[i];
		struct symbol *symbol = add_symbol(file, name, method->name);

		symbol->client_streams = method->client_streaming;
		symbol->server_streams = method->server_streaming;
	}
}

static void add_file(const uint8_t *data, size_t length)
{
	Google__Protobuf__FileDescriptorProto *proto =
		google__protobuf__file_descriptor_proto__unpack(NULL, length, data);
	size_t file = all.file_count;
	const char *scope;

	if (proto == NULL)
		return;
	scope = proto->package != NULL ? proto->package : "";
	all.files = rt_realloc(all.files, (file + 1) * sizeof(*all.files));
	all.files[file].name = rt_strdup(proto->name);
	all.files[file].file = (struct rpc_file){ data, length };
	all.file_count++;
	for (size_t i = 0; i < proto->n_message_type; i++)
		add_message(file, scope, proto->message_type[i]);
	for (size_t i = 0; i < proto->n_enum_type; i++)
		add_symbol(file, scope, proto->enum_type[i]->name);
	for (size_t i = 0; i < proto->n_service; i++)
		add_service(file, scope, proto->service[i]);
	google__protobuf__file_descriptor_proto__free_unpacked(proto, NULL);
}

static int compare_symbols(const void *a, const void *b)
{
	return strcmp(((const struct symbol *)a)->name, ((const struct symbol *)b)->name);
}

/* A FileDescriptorSet is `repeated FileDescriptorProto file = 1`: tag 0x0a, length, bytes. */
static void read_set(void)
{
	const uint8_t *at = rt_descriptors.data, *end = at + rt_descriptors.length;

	while (at < end && *at == 0x0a) {
		size_t length = 0;
		unsigned shift = 0;

		do {
			at++;
			length |= (size_t)(*at & 0x7f) << shift;
			shift += 7;
		} while (*at >= 0x80);
		at++;
		add_file(at, length);
		at += length;
	}
	if (all.symbol_count > 0)
		qsort(all.symbols, all.symbol_count, sizeof(*all.symbols), compare_symbols);
}

static const struct symbol *find_symbol(const char *name)
{
	struct symbol key = { .name = (char *)(uintptr_t)name };

	pthread_once(&once, read_set);
	if (all.symbol_count == 0)
		return NULL;
	return bsearch(&key, all.symbols, all.symbol_count, sizeof(key), compare_symbols);
}

bool rt_descriptors_method(const char *service, const char *method, bool *ret_client_streams,
			   bool *ret_server_streams)
{
	char *name = rt_printf("%s.%s", service, method);
	const struct symbol *symbol = find_symbol(name);

	free(name);
	if (symbol == NULL)
		return false;
	*ret_client_streams = symbol->client_streams;
	*ret_server_streams = symbol->server_streams;
	return true;
}

const struct rpc_file *rpc_descriptors_file(const char *name)
{
	pthread_once(&once, read_set);
	for (size_t i = 0; i < all.file_count; i++) {
		if (strcmp(all.files[i].name, name) == 0)
			return &all.files[i].file;
	}
	return NULL;
}

const struct rpc_file *rpc_descriptors_symbol(const char *name)
{
	const struct symbol *symbol = find_symbol(name);

	return symbol != NULL ? &all.files[symbol->file].file : NULL;
}
