#include "common/runtime/web_origin.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace orch::runtime {
namespace {

HttpRequest request(std::string method, std::string host, std::string origin) {
  HttpRequest out;
  out.method = std::move(method);
  out.headers = {{"Host", std::move(host)}, {"Origin", std::move(origin)}};
  return out;
}

TEST(WebOrigin, OC_CTRL_2075_only_a_page_of_this_very_address_is_ours) {
  for (const std::string host :
       {"127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "192.168.1.7:80", "[fe80::1]"}) {
    EXPECT_FALSE(comes_from_a_foreign_page(request("POST", host, "http://" + host))) << host;
    EXPECT_TRUE(comes_from_a_foreign_page(request("POST", host, "http://evil.example"))) << host;
    EXPECT_TRUE(comes_from_a_foreign_page(request("POST", host, "http://" + host + "1"))) << host;
    EXPECT_TRUE(comes_from_a_foreign_page(request("POST", host, "https://" + host))) << host;
    EXPECT_TRUE(comes_from_a_foreign_page(request("POST", host, "null"))) << host;
    EXPECT_TRUE(comes_from_a_foreign_page(request("POST", host, ""))) << host;
    EXPECT_TRUE(comes_from_a_foreign_page(request("DELETE", host, "null"))) << host;
    EXPECT_FALSE(comes_from_a_foreign_page(request("GET", host, "null"))) << host;
  }
}

TEST(WebOrigin, OC_CTRL_2075_a_name_may_have_been_led_here) {
  for (const std::string host : {"evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evil",
                                 "1270.0.0.1", "[evil]:8080", "[::1.evil", "", ":8080", "127.0.0.1 "}) {
    EXPECT_TRUE(comes_from_a_foreign_page(request("POST", host, "http://" + host))) << host;
  }
}

TEST(WebOrigin, OC_CTRL_2075_a_host_by_a_name_that_nobody_gave_it) {
  const std::vector<std::string> known{"Gateway.example"};
  for (const std::string host : {"", "127.0.0.1", "127.0.0.1:8080", "localhost:8080", "LocalHost", "a.localhost:1",
                                 "[::1]:8080", "[::1]", "gateway.example", "GATEWAY.example:8080"}) {
    EXPECT_FALSE(may_have_been_led_here(host, known)) << host;
  }
  for (const std::string host : {"evil.example", "gateway.example.evil:80", "localhost.evil", "notlocalhost",
                                 ".localhost", "[evil]", "[::1.evil", ":8080", "127.0.0.1.evil", "evil localhost"}) {
    EXPECT_TRUE(may_have_been_led_here(host, known)) << host;
  }
}

TEST(WebOrigin, a_program_says_nothing_of_a_page) {
  HttpRequest plain;
  plain.method = "POST";
  plain.headers = {{"Host", "gateway.example"}};
  EXPECT_FALSE(comes_from_a_foreign_page(plain));
}

TEST(WebOrigin, OC_CTRL_2075_json_is_what_a_page_cannot_say_unasked) {
  const auto says = [](std::string kind) {
    HttpRequest out;
    out.headers = {{"content-type", std::move(kind)}};
    return says_json(out);
  };
  EXPECT_TRUE(says("application/json"));
  EXPECT_TRUE(says("Application/JSON; charset=utf-8"));
  for (const std::string kind : {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
                                 "text/plain; application/json", "application/jso"}) {
    EXPECT_FALSE(says(kind)) << kind;
  }
  EXPECT_FALSE(says_json({}));
}

}  // namespace
}  // namespace orch::runtime
