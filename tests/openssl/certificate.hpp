// Certificates for tests, made when they are needed, in a folder that goes with them.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <sse/openssl.hpp>
#include <sse/server.hpp>

namespace test {

class certificate_folder {
 public:
  certificate_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "ssehub-tls-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  certificate_folder(const certificate_folder&) = delete;
  certificate_folder& operator=(const certificate_folder&) = delete;
  ~certificate_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

  /// NAME.crt, which vouches for itself, and NAME.key. `passphrase`: of the key; nullptr: none.
  void make(const std::string& name, const char* passphrase = nullptr) const {
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key{EVP_EC_gen("P-256"), &EVP_PKEY_free};
    const std::unique_ptr<X509, void (*)(X509*)> x{X509_new(), &X509_free};
    ASN1_INTEGER_set(X509_get_serialNumber(x.get()), ++serial_);
    X509_gmtime_adj(X509_getm_notBefore(x.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x.get()), 3600);
    X509_set_pubkey(x.get(), key.get());
    X509_NAME* const subject = X509_get_subject_name(x.get());
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(x.get(), subject);
    if (X509_sign(x.get(), key.get(), EVP_sha256()) == 0) throw std::runtime_error("X509_sign");
    write(name + ".crt", [&](std::FILE* f) { return PEM_write_X509(f, x.get()); });
    write(name + ".key", [&](std::FILE* f) {
      return PEM_write_PKCS8PrivateKey(f, key.get(),
                                       passphrase != nullptr ? EVP_aes_256_cbc() : nullptr,
                                       passphrase, passphrase != nullptr ? 4 : 0, nullptr, nullptr);
    });
  }
  [[nodiscard]] sse::tls::options options(const std::string& name) const {
    return {.certificate = file(name + ".crt"), .key = file(name + ".key")};
  }

 private:
  template <class F>
  void write(const std::string& name, F f) const {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> to{std::fopen(file(name).c_str(), "wb"),
                                                             &std::fclose};
    if (to == nullptr || f(to.get()) != 1) throw std::runtime_error("cannot write " + name);
  }

  std::string path_;
  mutable long serial_ = 0;
};

/// One folder and one context for all servers of the test program.
struct tls_stand {
  tls_stand() {
    folder.make("one");
    if (const auto e = context.load()) throw std::runtime_error(e.message);
  }
  certificate_folder folder;
  sse::tls::context context{folder.options("one")};
};
[[nodiscard]] inline tls_stand& tls_of_tests() {
  static tls_stand s;
  return s;
}

/// A server with TLS, made of options alone.
template <class Server>
struct secured : Server {
  explicit secured(const sse::server_options& o = {}) : Server{o, &tls_of_tests().context} {}
};

}  // namespace test
