#include "common/base/gateway_address.h"

#include <gtest/gtest.h>

namespace orch {
namespace {

TEST(GatewayAddress, OC_JOB_1016_is_scheme_host_and_port) {
  for (const char* good : {"http://a", "https://gw-1.example.org", "http://127.0.0.1:8080", "http://[::1]:80"}) {
    EXPECT_TRUE(is_public_url(good)) << good;
  }
  for (const char* bad : {"", "http://", "ftp://a", "a:80", "http://a/", "http://a/b", "http://a?b", "http://a#b",
                          "http://user@a", "http://a b", "http://a\r\nSet-Cookie: x", "//a"}) {
    EXPECT_FALSE(is_public_url(bad)) << bad;
  }
  EXPECT_TRUE(is_public_url("http://" + std::string(kPublicUrlBytesMax - 7, 'a')));
  EXPECT_FALSE(is_public_url("http://" + std::string(kPublicUrlBytesMax - 6, 'a')));
}

}  // namespace
}  // namespace orch
