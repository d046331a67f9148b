// What both C++ peers share: Redis helpers over hiredis (sync contexts), scripts, ids, stock.
#pragma once

#include <absl/synchronization/mutex.h>
#include <hiredis/hiredis.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <sys/random.h>

inline const char *kOrderStream = "order:{0}:events";
inline const char *kInventoryStream = "inventory:{0}:events";
inline const char *kStock = "inventory:{0}:stock";

using Reply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;

inline void die(const std::string &what) {
	std::fprintf(stderr, "%s\n", what.c_str());
	std::exit(1);
}

// As Tandem does: abseil, as Debian builds it, looks for deadlocks at every lock of gRPC.
inline void deadlock_detection_off() { absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); }

class Redis {
      public:
	explicit Redis(const std::string &socket) : c_(redisConnectUnix(socket.c_str())) {
		if (c_ == nullptr || c_->err)
			die("redis: cannot connect to " + socket);
	}
	~Redis() { redisFree(c_); }
	Redis(const Redis &) = delete;
	void append(const std::vector<std::string> &args) {
		std::vector<const char *> argv;
		std::vector<size_t> lens;
		for (const auto &a : args) {
			argv.push_back(a.data());
			lens.push_back(a.size());
		}
		redisAppendCommandArgv(c_, static_cast<int>(argv.size()), argv.data(), lens.data());
	}
	Reply reply() {
		void *r = nullptr;
		if (redisGetReply(c_, &r) != REDIS_OK)
			die(std::string("redis: ") + c_->errstr);
		return Reply(static_cast<redisReply *>(r), freeReplyObject);
	}
	Reply command(const std::vector<std::string> &args) {
		append(args);
		Reply r = reply();
		if (r->type == REDIS_REPLY_ERROR && std::strncmp(r->str, "BUSYGROUP", 9) != 0)
			die(std::string("redis: ") + r->str);
		return r;
	}
	std::string load(const std::string &path) {
		std::ifstream f(path);
		std::stringstream s;
		s << f.rdbuf();
		return command({"SCRIPT", "LOAD", s.str()})->str;
	}
	void group(const char *stream, const char *group) {
		command({"XGROUP", "CREATE", stream, group, "0", "MKSTREAM"});
	}

      private:
	redisContext *c_;
};

inline std::string now_text() {
	auto t = std::chrono::system_clock::now();
	auto s = std::chrono::system_clock::to_time_t(t);
	auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(t.time_since_epoch()).count() % 1000;
	std::tm tm;
	gmtime_r(&s, &tm);
	char text[48];
	std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
	              tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, static_cast<int>(ms));
	return text;
}

inline std::string new_order_id() {
	static const char *alphabet = "abcdefghijklmnopqrstuvwxyz234567";
	std::string id = "ord_";
	unsigned char bytes[26];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		die("getrandom");
	for (unsigned char byte : bytes)
		id += alphabet[byte & 31];
	return id;
}

// One delivered entry: its stream id, and the fields that matter.
struct Entry {
	std::string id, type, subject, data;
};
inline std::vector<Entry> entries_of(const redisReply *r) {
	std::vector<Entry> out;
	if (r == nullptr || r->type != REDIS_REPLY_ARRAY || r->elements == 0)
		return out;
	const redisReply *list = r->element[0]->element[1];
	for (size_t i = 0; i < list->elements; i++) {
		const redisReply *e = list->element[i], *f = e->element[1];
		Entry entry;
		entry.id = e->element[0]->str;
		for (size_t j = 0; j + 1 < f->elements; j += 2) {
			std::string name(f->element[j]->str, f->element[j]->len);
			std::string value(f->element[j + 1]->str, f->element[j + 1]->len);
			if (name == "type")
				entry.type = value;
			else if (name == "subject")
				entry.subject = value;
			else if (name == "data")
				entry.data = value;
		}
		out.push_back(std::move(entry));
	}
	return out;
}
