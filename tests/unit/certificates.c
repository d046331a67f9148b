/* certificates.c - authorities and certificates for tests; see certificates.h. */
#include "certificates.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(int good)
{
	if (!good)
		abort();
}

static FILE *open_part(const char *folder, const char *name, const char *ending, const char *mode)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s.%s", folder, name, ending);
	file = fopen(path, mode);
	must(file != NULL);
	return file;
}

/* What open_part wrote as <name>.<ending>.new gets its name. */
static void close_new(FILE *file, const char *folder, const char *name, const char *ending)
{
	char from[512], to[512];

	must(fchmod(fileno(file), 0600) == 0);
	must(fclose(file) == 0);
	snprintf(from, sizeof(from), "%s/%s.%s.new", folder, name, ending);
	snprintf(to, sizeof(to), "%s/%s.%s", folder, name, ending);
	must(rename(from, to) == 0);
}

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX context;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	must(extension != NULL);
	must(X509_add_ext(certificate, extension, -1));
	X509_EXTENSION_free(extension);
}

/* `issuer` NULL: it signs itself. */
static void make(const char *folder, const char *name, X509 *issuer, EVP_PKEY *issuer_key,
		 const char *names, int from_days, int days)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	X509_NAME *subject;
	uint64_t serial;
	FILE *file;

	must(key != NULL && certificate != NULL);
	must(RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial);
	X509_gmtime_adj(X509_getm_notBefore(certificate), from_days * 86400L);
	X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86400L);
	X509_set_pubkey(certificate, key);
	subject = X509_get_subject_name(certificate);
	must(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name,
					-1, -1, 0));
	X509_set_issuer_name(certificate, issuer != NULL ? X509_get_subject_name(issuer) : subject);
	if (issuer == NULL)
		extend(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
	if (names != NULL)
		extend(certificate, issuer, NID_subject_alt_name, names);
	must(X509_sign(certificate, issuer != NULL ? issuer_key : key, EVP_sha256()) > 0);
	file = open_part(folder, name, "key.new", "w");
	must(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
	close_new(file, folder, name, "key");
	file = open_part(folder, name, "crt.new", "w");
	must(PEM_write_X509(file, certificate));
	close_new(file, folder, name, "crt");
	X509_free(certificate);
	EVP_PKEY_free(key);
}

void certificates_authority(const char *folder, const char *name)
{
	make(folder, name, NULL, NULL, NULL, -1, 3650);
}

void certificates_issue(const char *folder, const char *authority, const char *name,
			const char *names, int days)
{
	certificates_issue_from(folder, authority, name, names, -1, days);
}

void certificates_issue_from(const char *folder, const char *authority, const char *name,
			     const char *names, int from_days, int days)
{
	FILE *file = open_part(folder, authority, "crt", "r");
	X509 *issuer = PEM_read_X509(file, NULL, NULL, NULL);
	EVP_PKEY *key;

	fclose(file);
	file = open_part(folder, authority, "key", "r");
	key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
	fclose(file);
	must(issuer != NULL && key != NULL);
	make(folder, name, issuer, key, names, from_days, days);
	EVP_PKEY_free(key);
	X509_free(issuer);
}

void certificates_copy(const char *folder, const char *from, const char *to)
{
	char path[512], bytes[65536];
	struct stat stat;
	size_t length;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, from);
	file = fopen(path, "r");
	must(file != NULL);
	length = fread(bytes, 1, sizeof(bytes), file);
	must(length < sizeof(bytes));
	must(fstat(fileno(file), &stat) == 0);
	fclose(file);
	snprintf(path, sizeof(path), "%s/%s", folder, to);
	file = fopen(path, "w");
	must(file != NULL);
	must(fchmod(fileno(file), stat.st_mode & 07777) == 0);
	must(fwrite(bytes, 1, length, file) == length);
	must(fclose(file) == 0);
}

void certificates_remove(const char *folder)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;

	must(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			must(unlinkat(dirfd(dir), entry->d_name, 0) == 0);
	closedir(dir);
	must(rmdir(folder) == 0);
}
