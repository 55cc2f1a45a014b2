// Operations over HTTP on the real program: OC-POOL-3050 to 3054.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <string>

#include "pool-managerd/test/manager_process.h"

namespace orch::pool {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kOther = "sha256:" + std::string(64, '1');

std::string new_model(const ManagerProcess& manager, const std::string& script) {
  std::string path = manager.dir() + "/new";
  std::ofstream(path) << script;
  return path;
}

json operation(const ManagerProcess& manager, const json& begun) {
  const auto reply = manager.http_get("/v1/operations/" + begun["operation_id"].get<std::string>());
  return reply ? json::parse(reply->substr(reply->find("\r\n\r\n") + 4), nullptr, false) : json::object();
}

TEST(Operations, OC_POOL_3050_a_drain_answers_202_and_is_followed_to_its_end) {
  ManagerProcess manager;
  manager.start();
  manager.wait_ready();
  const auto [status, begun] = manager.http_post("/v1/pools/p/drain", {{"deadline_ms", 1000}});
  EXPECT_EQ(status, 202) << begun;
  EXPECT_EQ(begun["kind"], "drain");
  EXPECT_TRUE(wait_until([&] { return operation(manager, begun)["state"] == "succeeded"; }));
  EXPECT_EQ(manager.replica()["state"], "stopped");
  EXPECT_THAT(*manager.http_get("/metrics"),
              HasSubstr(R"(operations_total{operation="drain",pool_id="p",result="pass"} 1)"));
  EXPECT_THAT(*manager.http_get("/v1/pools/p/health"), HasSubstr("\"ready\":false"));

  const auto [waited, back] = manager.http_post("/v1/pools/p/undrain?wait=true", nullptr);
  EXPECT_EQ(waited, 200) << back;
  EXPECT_EQ(back["state"], "succeeded");
  EXPECT_EQ(manager.replica()["state"], "ready");
  EXPECT_THAT(*manager.http_get("/v1/pools/p/health"), HasSubstr("\"ready\":true"));
}

TEST(Operations, OC_POOL_3050_bad_requests_are_named) {
  ManagerProcess manager;
  manager.start();
  manager.wait_ready();
  const auto field = [&](const std::string& path, const json& body) {
    const auto [status, reply] = manager.http_post(path, body);
    return std::to_string(status) + " " + reply.value("field", "") + " " + reply.value("code", "");
  };
  EXPECT_EQ(field("/v1/pools/p/drain", {{"deadline_ms", -1}}), "400 deadline_ms INVALID_PARAMS");
  EXPECT_EQ(field("/v1/pools/p/drain", {{"deadline", 1}}), "400 deadline INVALID_PARAMS");
  EXPECT_EQ(field("/v1/pools/p/drain?wait=yes", nullptr), "400 wait INVALID_PARAMS");
  EXPECT_EQ(field("/v1/pools/q/drain", nullptr), "404 pool_id NOT_FOUND");
  EXPECT_EQ(field("/v1/replicas/p-7/drain", nullptr), "404 replica_id NOT_FOUND");
  EXPECT_EQ(field("/v1/pools/p/reload", nullptr), "400 model INVALID_PARAMS");
  EXPECT_EQ(field("/v1/pools/p/reload", {{"model", {{"path", "x"}, {"digest", kOther}}}}),
            "400 model.path INVALID_PARAMS");
  EXPECT_EQ(field("/v1/pools/p/reload", {{"model", {{"path", "/x"}, {"digest", "1"}}}}),
            "400 model.digest INVALID_PARAMS");
  EXPECT_EQ(manager.http_post("/v1/pools/p/drain", nullptr, "text/plain").first, 400) << "a browser's form";
  EXPECT_EQ(manager.http_get("/v1/operations/9.9")->substr(9, 3), "404");
  EXPECT_EQ(manager.http_get("/v1/pools/q/health")->substr(9, 3), "404");
  EXPECT_EQ(manager.replica()["state"], "ready");
}

TEST(Operations, OC_POOL_3052_a_reload_replaces_the_worker_and_survives_a_restart_of_the_manager) {
  ManagerProcess manager;
  manager.config["lease"]["orphan_grace_ms"] = 20000;
  manager.start();
  const int old = manager.wait_ready()["pid"].get<int>();
  const std::string path = new_model(manager, "");
  const json model{{"path", path}, {"digest", kOther}};
  const auto [status, ended] = manager.http_post("/v1/pools/p/reload?wait=true", {{"model", model}});
  EXPECT_EQ(status, 200) << ended;
  const json now = manager.replica();
  EXPECT_EQ(now["replica_id"], "p-0b");
  EXPECT_EQ(now["model_digest"], kOther);
  EXPECT_FALSE(is_alive(old));
  EXPECT_EQ(manager.http_get("/metrics")->find("replica_id=\"p-0\""), std::string::npos) << "no series outlives it";

  manager.signal(SIGKILL);
  manager.wait();
  manager.start();
  const json adopted = manager.wait_ready();
  EXPECT_EQ(adopted["pid"], now["pid"]) << "OC-POOL-3054: it is what this manager wants";
  EXPECT_EQ(adopted["replica_id"], "p-0b");

  manager.signal(SIGKILL);
  manager.wait();
  manager.config["pools"][0]["model"]["digest"] = "sha256:" + std::string(64, '2');
  manager.start();
  const json configured = manager.wait_ready();
  EXPECT_EQ(configured["replica_id"], "p-0") << "configured anew since";
  EXPECT_EQ(configured["model_digest"], "sha256:" + std::string(64, '2'));
}

TEST(Operations, OC_POOL_3053_a_reload_that_fails_leaves_the_old_worker_and_says_why) {
  ManagerProcess manager;
  manager.start();
  const json before = manager.wait_ready();
  const json model{{"path", new_model(manager, "decode")}, {"digest", kOther}};
  const auto [status, failed] = manager.http_post("/v1/pools/p/reload?wait=true", {{"model", model}});
  EXPECT_EQ(status, 409) << failed;
  EXPECT_THAT(failed["message"].get<std::string>(), HasSubstr("p-0b: self-check decode"));
  const json after = manager.replica();
  EXPECT_EQ(after["pid"], before["pid"]);
  EXPECT_EQ(after["state"], "ready");
  EXPECT_THAT(after["last_error"].get<std::string>(), HasSubstr("reload: p-0b: self-check decode"));
  EXPECT_EQ(after["last_error_code"], "not_replaced");
  manager.signal(SIGTERM);
  EXPECT_EQ(manager.wait(), 0) << manager.errors();
}

}  // namespace
}  // namespace orch::pool
