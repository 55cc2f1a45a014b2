// Recursive descent over the tokens; operator precedence is that of the language.
#include <array>
#include <charconv>
#include <string>
#include <utility>

#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/expression_parser.h"

namespace orch::worker::jinja {

namespace {

using StmtPtr = std::unique_ptr<Stmt>;

class StatementParser {
 public:
  explicit StatementParser(std::vector<Token> tokens) : cursor_(std::move(tokens)), expressions_(cursor_) {}

  Result<Body, TemplateError> run() {
    Body body = parse_body({});
    if (cursor_.failed()) return Err{cursor_.error()};
    return body;
  }

 private:
  StmtPtr make(StmtKind kind) {
    auto out = std::make_unique<Stmt>();
    out->kind = kind;
    out->line = cursor_.peek().line;
    return out;
  }

  // Until a block whose keyword is in `ends`; the cursor is then behind that keyword, which is in end_word_.
  Body parse_body(const std::vector<std::string_view>& ends) {
    Body body;
    if (++depth_ > kNestingMax) cursor_.fail("blocks are nested deeper than " + std::to_string(kNestingMax));
    while (!cursor_.failed()) {
      const Token& token = cursor_.peek();
      if (token.type == TokenType::end) {
        if (!ends.empty()) cursor_.fail("block is not closed: expected " + std::string(ends.back()));
        break;
      }
      if (token.type == TokenType::data) {
        StmtPtr text = make(StmtKind::data);
        text->text = cursor_.take().text;
        body.push_back(std::move(text));
      } else if (token.type == TokenType::output_begin) {
        StmtPtr output = make(StmtKind::output);
        cursor_.take();
        output->exprs.push_back(expressions_.parse_tuple());
        cursor_.expect(TokenType::output_end);
        body.push_back(std::move(output));
      } else {
        cursor_.take();
        const std::string word = cursor_.expect(TokenType::name);
        for (const std::string_view end : ends) {
          if (word != end) continue;
          end_word_ = word;
          --depth_;
          return body;
        }
        parse_block(word, body);
      }
    }
    --depth_;
    return body;
  }

  void close_block() { cursor_.expect(TokenType::block_end); }

  void parse_block(const std::string& word, Body& body) {
    if (word == "if") return body.push_back(parse_if());
    if (word == "for") return body.push_back(parse_for());
    if (word == "set") return body.push_back(parse_set());
    if (word == "macro") return body.push_back(parse_macro());
    if (word == "break" || word == "continue") {
      body.push_back(make(word == "break" ? StmtKind::break_loop : StmtKind::next_loop));
      if (loops_ == 0) cursor_.fail(word + " outside of a loop");
      return close_block();
    }
    if (word == "generation") {  // marks the assistant's text for training; here its body is plain content
      close_block();
      Body inner = parse_body({"endgeneration"});
      close_block();
      for (StmtPtr& statement : inner) body.push_back(std::move(statement));
      return;
    }
    cursor_.fail("{% " + word + " %} is not supported");
  }

  StmtPtr parse_if() {
    StmtPtr out = make(StmtKind::branch);
    out->exprs.push_back(expressions_.parse());
    close_block();
    out->bodies.push_back(parse_body({"elif", "else", "endif"}));
    while (!cursor_.failed() && end_word_ == "elif") {
      out->exprs.push_back(expressions_.parse());
      close_block();
      out->bodies.push_back(parse_body({"elif", "else", "endif"}));
    }
    if (!cursor_.failed() && end_word_ == "else") {
      close_block();
      out->bodies.push_back(parse_body({"endif"}));
    }
    close_block();
    return out;
  }

  void parse_targets(Stmt& out) {
    const bool grouped = cursor_.accept("(");
    do {
      out.names.push_back(cursor_.expect(TokenType::name));
    } while (!cursor_.failed() && cursor_.accept(","));
    if (grouped) cursor_.expect_op(")");
  }

  StmtPtr parse_for() {
    StmtPtr out = make(StmtKind::loop);
    parse_targets(*out);
    if (!cursor_.accept_word("in")) cursor_.fail("expected \"in\" in {% for %}");
    out->exprs.push_back(expressions_.parse_unconditional());
    out->exprs.push_back(cursor_.accept_word("if") ? expressions_.parse() : nullptr);
    if (cursor_.accept_word("recursive")) cursor_.fail("recursive loops are not supported");
    close_block();
    ++loops_;
    out->bodies.push_back(parse_body({"else", "endfor"}));
    --loops_;
    if (!cursor_.failed() && end_word_ == "else") {
      close_block();
      out->bodies.push_back(parse_body({"endfor"}));
    }
    close_block();
    return out;
  }

  StmtPtr parse_set() {
    StmtPtr out = make(StmtKind::assign);
    parse_targets(*out);
    if (out->names.size() == 1 && cursor_.accept(".")) {
      out->text = ".";
      out->names.push_back(cursor_.expect(TokenType::name));
    }
    if (cursor_.accept("=")) {
      out->exprs.push_back(expressions_.parse_tuple());
      close_block();
      return out;
    }
    if (out->names.size() != 1) cursor_.fail("{% set %} of a block takes one name");
    out->kind = StmtKind::capture;
    close_block();
    out->bodies.push_back(parse_body({"endset"}));
    close_block();
    return out;
  }

  StmtPtr parse_macro() {
    StmtPtr out = make(StmtKind::macro);
    out->macro = std::make_unique<Macro>();
    out->macro->name = cursor_.expect(TokenType::name);
    cursor_.expect_op("(");
    while (!cursor_.failed() && !cursor_.accept(")")) {
      std::string name = cursor_.expect(TokenType::name);
      ExprPtr fallback = cursor_.accept("=") ? expressions_.parse() : nullptr;
      out->macro->parameters.emplace_back(std::move(name), std::move(fallback));
      if (!cursor_.accept(",") && !cursor_.at_op(")")) cursor_.fail("expected , or ) in the macro's parameters");
    }
    close_block();
    const int outer_loops = std::exchange(loops_, 0);
    out->macro->body = parse_body({"endmacro"});
    loops_ = outer_loops;
    if (cursor_.peek().type == TokenType::name) cursor_.take();  // {% endmacro name %}
    close_block();
    return out;
  }

  TokenCursor cursor_;
  ExpressionParser expressions_;
  std::string end_word_;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Result<Body, TemplateError> parse(std::vector<Token> tokens) { return StatementParser(std::move(tokens)).run(); }

}  // namespace orch::worker::jinja
