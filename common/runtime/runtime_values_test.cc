// The parts of the runtime that need no socket.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/runtime/entropy.h"
#include "common/runtime/http_router.h"
#include "common/runtime/json_text.h"
#include "common/runtime/key_ring.h"
#include "common/runtime/listen_address.h"
#include "common/runtime/metrics.h"
#include "common/runtime/state_dir.h"
#include "common/testing/temp_folder.h"

namespace orch::runtime {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TemporaryDirectory : public orch::testing::TempFolder {
 public:
  std::string file(const std::string& name, const std::string& content) const {
    std::ofstream(path() + "/" + name) << content;
    return path() + "/" + name;
  }
};

std::string read(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(StateDir, L1_boot_grows_by_one_per_start_and_the_id_stays) {
  const TemporaryDirectory temporary;
  const std::string path = temporary.path() + "/state";
  Uuid id;
  for (std::uint64_t boot = 1; boot <= 3; ++boot) {
    const auto dir = StateDir::open(path);
    ASSERT_TRUE(dir.ok());
    EXPECT_EQ(dir->boot(), boot);
    if (boot == 1) id = dir->id();
    EXPECT_EQ(dir->id(), id);
  }
  EXPECT_FALSE(id.is_nil());
}

TEST(StateDir, a_second_process_is_refused_until_the_first_is_gone) {
  const TemporaryDirectory temporary;
  {
    const auto first = StateDir::open(temporary.path());
    ASSERT_TRUE(first.ok());
    const auto second = StateDir::open(temporary.path());
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().kind, StateDir::Error::Kind::locked);
    EXPECT_EQ(second.error().exit_code(), 74);
  }
  EXPECT_TRUE(StateDir::open(temporary.path()).ok());
}

// A guessed boot could repeat an old one, and with it old lease ids.
TEST(StateDir, L1_a_damaged_counter_or_id_is_refused_not_replaced) {
  for (const char* name : {"boot", "uuid"}) {
    const TemporaryDirectory temporary;
    temporary.file(name, "12x\n");
    const auto dir = StateDir::open(temporary.path());
    ASSERT_FALSE(dir.ok()) << name;
    EXPECT_EQ(dir.error().kind, StateDir::Error::Kind::corrupt) << name;
    EXPECT_EQ(read(temporary.path() + "/" + name), "12x\n") << name;
  }
}

TEST(StateDir, port_files_hold_the_number_and_leave_no_temporary) {
  const TemporaryDirectory temporary;
  const auto dir = StateDir::open(temporary.path());
  ASSERT_TRUE(dir.ok());
  ASSERT_TRUE(dir->write_port("http", 4711).ok());
  EXPECT_EQ(read(temporary.path() + "/http.port"), "4711\n");
  EXPECT_FALSE(std::filesystem::exists(temporary.path() + "/http.port.new"));
}

TEST(KeyRing, matches_its_keys_only_and_shows_a_fingerprint) {
  const TemporaryDirectory temporary;
  const std::string key = "0123456789abcdef0123";
  const auto ring =
      KeyRing::load({temporary.file("a", "\n" + key + " \n"), temporary.file("b", "another-key-of-length")});
  ASSERT_TRUE(ring.ok());
  EXPECT_EQ(ring->match(key), to_hex(sha256(key)).substr(0, 6));
  EXPECT_TRUE(ring->match("another-key-of-length").has_value());
  EXPECT_FALSE(ring->match(key + "4").has_value());
  EXPECT_FALSE(ring->match(key.substr(1)).has_value());
  EXPECT_FALSE(ring->match("").has_value());
}

TEST(KeyRing, refuses_short_missing_and_split_keys_without_showing_them) {
  const TemporaryDirectory temporary;
  for (const std::string& path : {temporary.file("short", "secretword"), temporary.path() + "/absent",
                                  temporary.file("two", "secretword-secretword other-other-other")}) {
    const auto ring = KeyRing::load({path});
    ASSERT_FALSE(ring.ok()) << path;
    EXPECT_THAT(ring.error(), HasSubstr(path));
    EXPECT_THAT(ring.error(), Not(HasSubstr("secretword")));
  }
}

TEST(KeyRing, comparison_and_bearer_parsing) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_TRUE(equal_in_constant_time("", ""));
  for (const std::string_view other : {"abd", "xbc", "axc", "ab", "abcd", ""})
    EXPECT_FALSE(equal_in_constant_time("abc", other)) << other;
  EXPECT_EQ(bearer_token("Bearer k1"), "k1");
  EXPECT_EQ(bearer_token("bearer   k1"), "k1");
  for (const std::string_view bad : {"Bearer", "Bearer ", "Basic k1", "k1", "", "Bearer a b"})
    EXPECT_EQ(bearer_token(bad), "") << bad;
}

TEST(JsonText, escapes_and_replaces_broken_utf8) {
  const auto quoted = [](std::string_view text) {
    std::string out;
    append_json_string(out, text);
    return out;
  };
  EXPECT_EQ(quoted("a\"b\\c\n\t\r\x01\x7f"), "\"a\\\"b\\\\c\\n\\t\\r\\u0001\\u007f\"");
  EXPECT_EQ(quoted("h\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), "\"h\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
  EXPECT_EQ(quoted("x\xFFy"), "\"x\xEF\xBF\xBDy\"");
}

TEST(JsonText, finds_the_first_byte_that_is_not_utf8) {
  EXPECT_EQ(find_invalid_utf8("plain \xC3\xA9 \xF4\x8F\xBF\xBF"), std::string_view::npos);
  for (const std::string_view bad : {"\x80", "\xC0\xAF", "\xC3", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                     "\xF5\x80\x80\x80", "\xE2\x82"}) {
    for (std::size_t before = 0; before < 20; ++before) {  // in each place of the eight bytes that are read at a time
      EXPECT_EQ(find_invalid_utf8(std::string(before, 'a') + std::string(bad)), before)
          << to_hex(std::vector<std::uint8_t>(bad.begin(), bad.end()));
      EXPECT_EQ(find_invalid_utf8(std::string(before, 'a') + std::string(bad) + "aaaaaaaaaaaaaaaa"), before);
    }
  }
}

TEST(HttpRouter, tells_a_match_a_wrong_method_and_an_unknown_path_apart) {
  HttpRouter router;
  router.add("GET", "/v1/tasks/{id}/stream", [](const HttpExchangePtr&) {});
  router.add("POST", "/v1/tasks", [](const HttpExchangePtr&) {});
  const auto match = router.find("GET", "/v1/tasks/42/stream");
  ASSERT_NE(match.handler, nullptr);
  EXPECT_EQ(match.params, (std::vector<std::pair<std::string, std::string>>{{"id", "42"}}));
  EXPECT_EQ(match.pattern, "/v1/tasks/{id}/stream");
  EXPECT_EQ(router.find("GET", "/v1/tasks").allow, "POST");
  for (const char* path : {"/", "/v1/tasks/", "/v1/tasks/42", "/v1/tasks//stream", "/v1/tasks/42/stream/"}) {
    const auto none = router.find("GET", path);
    EXPECT_TRUE(none.handler == nullptr && none.allow.empty()) << path;
  }
}

TEST(ListenAddress, takes_literals_and_names_what_is_wrong) {
  EXPECT_TRUE(parse_listen_address("unix:/run/a.sock")->is_unix);
  EXPECT_EQ(parse_listen_address("[::1]:80")->grpc_target(), "[::1]:80");
  EXPECT_TRUE(parse_listen_address("127.0.0.9:0")->is_loopback());
  EXPECT_FALSE(parse_listen_address("0.0.0.0:1")->is_loopback());
  for (const std::string& bad : {std::string("8080"), std::string("host.name:1"), std::string("127.0.0.1:65536"),
                                 std::string("127.0.0.1:"), std::string("unix:"), "unix:/" + std::string(200, 'p')}) {
    EXPECT_FALSE(parse_listen_address(bad).ok()) << bad;
  }
}

TEST(Metrics, names_are_there_from_the_start_and_series_are_bounded) {
  Metrics metrics(
      {{"a_total", "Help.", Metrics::Kind::counter, {}, 2}, {"b_ms", "Help.", Metrics::Kind::histogram, {1, 2}, 8}});
  EXPECT_THAT(metrics.text(), HasSubstr("# TYPE a_total counter"));
  for (const char* value : {"x", "y", "z", "w", "x"}) metrics.add("a_total", {{"l", value}});
  metrics.observe("b_ms", {}, 1.5);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("a_total{l=\"x\"} 2"));
  EXPECT_THAT(text, HasSubstr("a_total{l=\"other\"} 2"));
  EXPECT_THAT(text, Not(HasSubstr("l=\"z\"")));
  EXPECT_THAT(text, HasSubstr("b_ms_bucket{le=\"2\"} 1"));
}

TEST(Metrics, a_series_is_its_labels_in_whichever_order) {
  Metrics metrics({{"a_total", "Help.", Metrics::Kind::counter, {}, 8}, {"b", "Help.", Metrics::Kind::gauge, {}, 8}});
  metrics.add("a_total", {{"l", "x"}, {"m", "y"}});
  metrics.add("a_total", MetricLabels{{"m", "y"}}.with("l", "x"));
  metrics.add("a_total", SeriesLabels{{"l", "x"}, {"m", "y"}});
  metrics.add("a_total", {{"l", "y"}, {"m", "x"}});  // the same words, another series
  metrics.set("b", {{"l", "x"}, {"m", "y"}}, 1);
  metrics.remove("b", {{"m", "y"}, {"l", "x"}});
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("a_total{l=\"x\",m=\"y\"} 3"));
  EXPECT_THAT(text, HasSubstr("a_total{l=\"y\",m=\"x\"} 1"));
  EXPECT_THAT(text, Not(HasSubstr("b{")));
}

TEST(Entropy, known_digest_and_seed_rule) {
  EXPECT_EQ(to_hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(seed_of_task("abc"), 0xb410ff61f20015adULL & 0x7FFF'FFFF'FFFF'FFFFULL);  // ruling 9: low 63 bits
  EXPECT_NE(random_uuid(), random_uuid());
}

}  // namespace
}  // namespace orch::runtime
