// ssehub example chat. SPDX-License-Identifier: MIT
#include "graphql.hpp"

#include <algorithm>
#include <utility>

#include "common/json.hpp"

namespace chat::graphql {
namespace {

constexpr std::size_t max_name = 128;
constexpr std::size_t max_depth = 64;    // of selections and values
constexpr std::size_t max_fields = 200;  // of one selection that is answered, repeated ones too
constexpr std::size_t max_operations = 50;

bool is_letter(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

/// Ends the reading.
struct problem {
  std::string message;
  std::size_t at;
};

enum class kind : std::uint8_t { end, punctuator, name, number, string };

struct token {
  kind what = kind::end;
  std::string_view text{};
  std::size_t at = 0;
};

class lexer {
 public:
  explicit lexer(std::string_view text) : text_{text} {
    if (text_.starts_with("\xEF\xBB\xBF")) i_ = 3;
  }

  token next() {
    skip_ignored();
    const std::size_t at = i_;
    if (i_ == text_.size()) return {kind::end, "the end", at};
    const char c = text_[i_];
    if (text_.substr(i_, 3) == "...") return cut(kind::punctuator, at, 3);
    if (std::string_view{"!$&():=@[]{|}"}.find(c) != std::string_view::npos)
      return cut(kind::punctuator, at, 1);
    if (is_letter(c)) {
      std::size_t n = 1;
      while (is_letter(peek(n)) || is_digit(peek(n))) ++n;
      return cut(kind::name, at, n);
    }
    if (c == '"') return text_.substr(i_, 3) == "\"\"\"" ? block_string(at) : string(at);
    if (is_digit(c) || c == '-') return number(at);
    throw problem{"Syntax Error: unexpected character", at};
  }

 private:
  [[nodiscard]] char peek(std::size_t n) const noexcept {
    return i_ + n < text_.size() ? text_[i_ + n] : '\0';
  }
  token cut(kind what, std::size_t at, std::size_t n) {
    i_ = at + n;
    return {what, text_.substr(at, n), at};
  }
  void skip_ignored() noexcept {
    while (i_ < text_.size()) {
      const char c = text_[i_];
      if (c == '#') {
        i_ = std::min(text_.find_first_of("\r\n", i_), text_.size());
      } else if (c == ' ' || c == '\t' || c == ',' || c == '\n' || c == '\r') {
        ++i_;
      } else {
        return;
      }
    }
  }
  token string(std::size_t at) {
    std::size_t n = 1;
    for (; peek(n) != '"'; ++n) {
      const char c = peek(n);
      if (c == '\n' || c == '\r' || i_ + n >= text_.size())
        throw problem{"Syntax Error: unterminated string", at};
      if (c == '\\') ++n;
    }
    return cut(kind::string, at, n + 1);
  }
  token block_string(std::size_t at) {
    std::size_t end = text_.find("\"\"\"", at + 3);
    while (end != std::string_view::npos && text_[end - 1] == '\\')
      end = text_.find("\"\"\"", end + 3);
    if (end == std::string_view::npos) throw problem{"Syntax Error: unterminated string", at};
    return cut(kind::string, at, end + 3 - at);
  }
  token number(std::size_t at) {
    std::size_t n = peek(0) == '-' ? 1 : 0;
    const auto digits = [&] {
      if (!is_digit(peek(n))) throw problem{"Syntax Error: invalid number", at};
      while (is_digit(peek(n))) ++n;
    };
    const bool zero = peek(n) == '0';
    const std::size_t begin = n;
    digits();
    if (zero && n > begin + 1) throw problem{"Syntax Error: invalid number", at};
    if (peek(n) == '.') {
      ++n;
      digits();
    }
    if (peek(n) == 'e' || peek(n) == 'E') {
      ++n;
      if (peek(n) == '+' || peek(n) == '-') ++n;
      digits();
    }
    if (is_letter(peek(n)) || peek(n) == '.') throw problem{"Syntax Error: invalid number", at};
    return cut(kind::number, at, n);
  }

  std::string_view text_;
  std::size_t i_ = 0;
};

class parser {
 public:
  explicit parser(std::string_view text) : lexer_{text} { advance(); }

  std::vector<operation> document() {
    std::vector<operation> out;
    do {
      if (out.size() == max_operations) throw problem{"Too many operations", now_.at};
      definition(out);
    } while (now_.what != kind::end);
    if (!refused_.message.empty()) throw problem{std::move(refused_)};
    return out;
  }

 private:
  void advance() { now_ = lexer_.next(); }
  [[nodiscard]] bool is(std::string_view punctuator) const noexcept {
    return now_.what == kind::punctuator && now_.text == punctuator;
  }
  bool take(std::string_view punctuator) {
    const bool there = is(punctuator);
    if (there) advance();
    return there;
  }
  [[noreturn]] void unexpected(std::string_view wanted) const {
    throw problem{"Syntax Error: expected " + std::string{wanted} + ", found " +
                      std::string{now_.text.substr(0, 40)},
                  now_.at};
  }
  void expect(std::string_view punctuator) {
    if (!take(punctuator)) unexpected(punctuator);
  }
  std::string name() {
    if (now_.what != kind::name) unexpected("a name");
    std::string out{now_.text};
    advance();
    return out;
  }
  /// What is well formed but not served: told only if the rest is well formed too.
  void refuse(std::string message) {
    if (refused_.message.empty()) refused_ = {std::move(message), now_.at};
  }

  void definition(std::vector<operation>& out) {
    operation op;
    if (!is("{")) {
      if (now_.what != kind::name) unexpected("an operation");
      if (now_.text == "fragment") return fragment();
      if (now_.text == "mutation") {
        op.kind = operation_kind::mutation;
      } else if (now_.text == "subscription") {
        op.kind = operation_kind::subscription;
      } else if (now_.text != "query") {
        unexpected("query, mutation or subscription");
      }
      advance();
      if (now_.what == kind::name) op.name = name();
      if (take("(")) variables();
      directives(false);
    }
    selection(&op.fields, 0);
    out.push_back(std::move(op));
  }

  void fragment() {
    refuse("Fragments are not supported here");
    advance();
    if (now_.what == kind::name && now_.text == "on") unexpected("the fragment's name");
    (void)name();
    condition();
    directives(false);
    selection(nullptr, 0);
  }
  void condition() {
    if (now_.what != kind::name || now_.text != "on") unexpected("on");
    advance();
    (void)name();
  }

  void variables() {
    do {
      expect("$");
      (void)name();
      expect(":");
      type(0);
      if (take("=")) value(0, true);
      directives(true);
    } while (!take(")"));
  }
  void type(std::size_t depth) {
    if (depth > max_depth) throw problem{"Syntax Error: nested too deep", now_.at};
    if (take("[")) {
      type(depth + 1);
      expect("]");
    } else {
      (void)name();
    }
    (void)take("!");
  }
  void value(std::size_t depth, bool constant) {
    if (depth > max_depth) throw problem{"Syntax Error: nested too deep", now_.at};
    if (is("$") && !constant) {
      advance();
      (void)name();
    } else if (take("[")) {
      while (!take("]")) value(depth + 1, constant);
    } else if (take("{")) {
      while (!take("}")) {
        (void)name();
        expect(":");
        value(depth + 1, constant);
      }
    } else if (now_.what == kind::name || now_.what == kind::number || now_.what == kind::string) {
      advance();
    } else {
      unexpected("a value");
    }
  }
  void arguments(bool constant) {
    if (!take("(")) return;
    do {
      (void)name();
      expect(":");
      value(0, constant);
    } while (!take(")"));
  }
  void directives(bool constant) {
    while (is("@")) {
      refuse("Directives are not supported here");
      advance();
      (void)name();
      arguments(constant);
    }
  }

  void selection(std::vector<field>* out, std::size_t depth) {
    if (depth > max_depth) throw problem{"Syntax Error: nested too deep", now_.at};
    expect("{");
    std::size_t n = 0;
    do {
      if (out != nullptr && n++ == max_fields) throw problem{"Too many fields", now_.at};
      if (is("...")) {
        spread(depth);
        continue;
      }
      field f;
      const std::size_t at = now_.at;
      f.key = f.name = name();
      if (take(":")) f.name = name();
      arguments(false);
      directives(false);
      f.has_selection = is("{");
      if (f.has_selection) selection(nullptr, depth + 1);
      if (out != nullptr) add(*out, std::move(f), at);
    } while (!take("}"));
  }
  void spread(std::size_t depth) {
    refuse("Fragments are not supported here");
    expect("...");
    if (now_.what == kind::name && now_.text != "on") {
      advance();
      return directives(false);
    }
    if (now_.what == kind::name) condition();
    directives(false);
    selection(nullptr, depth + 1);
  }
  static void add(std::vector<field>& out, field f, std::size_t at) {
    if (!is_name(f.key) || !is_name(f.name)) throw problem{"A name is too long", at};
    for (const field& other : out) {
      if (other.key != f.key) continue;
      if (other.name == f.name && other.has_selection == f.has_selection) return;
      throw problem{"Fields \"" + f.key + "\" conflict: use different aliases", at};
    }
    out.push_back(std::move(f));
  }

  lexer lexer_;
  token now_;
  problem refused_{{}, 0};
};

place place_of(std::string_view text, std::size_t at) noexcept {
  place p{1, 1};
  for (std::size_t i = 0; i < at && i < text.size(); ++i) {
    if (text[i] == '\n' || (text[i] == '\r' && text.substr(i + 1, 1) != "\n")) {
      p = {p.line + 1, 1};
    } else if ((static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U) {
      ++p.column;
    }
  }
  return p;
}

/// The operations must be told apart: one without a name stands alone.
read_result choose(std::vector<operation> all, std::string_view wanted) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].name.empty() && all.size() > 1)
      return {.error = "This anonymous operation must be the only defined operation."};
    for (std::size_t k = 0; k < i; ++k) {
      if (all[k].name == all[i].name)
        return {.error = "There can be only one operation named \"" + all[i].name + "\"."};
    }
  }
  if (wanted.empty() && all.size() > 1)
    return {.error = "Must provide operation name if query contains multiple operations."};
  for (operation& op : all) {
    if (wanted.empty() || op.name == wanted) return {.op = std::move(op)};
  }
  return {.error = "Unknown operation named \"" + std::string{wanted} + "\"."};
}

}  // namespace

bool is_name(std::string_view text) noexcept {
  return !text.empty() && text.size() <= max_name && is_letter(text.front()) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_letter(c) || is_digit(c); });
}

read_result read(std::string_view document, std::string_view name) {
  try {
    return choose(parser{document}.document(), name);
  } catch (const problem& p) {
    return {.error = p.message, .at = place_of(document, p.at)};
  }
}

std::string errors_json(std::string_view message, place at) {
  std::string out = R"({"errors":[{"message":)";
  examples::append_json_string(out, message);
  if (at.line != 0) {
    out += R"(,"locations":[{"line":)" + std::to_string(at.line) + R"(,"column":)" +
           std::to_string(at.column) + "}]";
  }
  return out + "}]}";
}

}  // namespace chat::graphql
