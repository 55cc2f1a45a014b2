// Strict configuration (OC-CONFIG-6001): what is accepted, and for every way to be wrong the path and the limit that
// the error names.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "contracts/config_reader.h"
#include "gen/config_orchestratord.h"
#include "gen/config_pool_managerd.h"

namespace orch {
namespace {

constexpr const char* kOrchestrator = "state_dir: state\nmanagers: [{endpoint: 'unix:/run/pm.sock'}]\n";
constexpr const char* kPools =
    "state_dir: state\n"
    "pools:\n"
    "  - {id: p0, engine: native, model: {name: m, path: m.gguf}}\n";

TEST(Config, OC_CONFIG_6001_a_minimal_orchestrator_document_takes_every_default) {
  const auto config = gateway_config::load_config(kOrchestrator);
  ASSERT_TRUE(config.ok()) << config.error().text();
  EXPECT_EQ(config->state_dir, "state");
  EXPECT_EQ(config->http.listen, "127.0.0.1:8080");
  EXPECT_EQ(config->http.body_bytes_max, 1048576u);
  EXPECT_EQ(config->queue.capacity, 256u);
  EXPECT_EQ(config->queue.bytes_max, 67108864u);
  EXPECT_EQ(config->queue.wait_ms_max, 600000u);
  EXPECT_EQ(config->watchdog.wall_ms, 1800000u);
  EXPECT_EQ(config->watchdog.first_token_ms, 180000u);
  EXPECT_EQ(config->watchdog.idle_ms, 60000u);
  EXPECT_EQ(config->queue.interactive_full_policy, gateway_config::FullPolicy::reject);
  EXPECT_EQ(config->queue.batch_full_policy, gateway_config::FullPolicy::drop_lru);
  EXPECT_EQ(to_string(config->queue.batch_full_policy), "drop-lru");
  EXPECT_EQ(config->streams.reconnect_grace_ms, 5000u);
  EXPECT_EQ(config->result_ttl_ms, 600000u);
  EXPECT_EQ(config->log.level, gateway_config::LogLevel::info);
  ASSERT_EQ(config->managers.size(), 1u);
  EXPECT_EQ(config->managers[0].endpoint, "unix:/run/pm.sock");
}

TEST(Config, OC_CONFIG_6001_a_minimal_pool_document_takes_every_default) {
  const auto config = pool::load_config(kPools);
  ASSERT_TRUE(config.ok()) << config.error().text();
  ASSERT_EQ(config->pools.size(), 1u);
  const pool::Config::Pool& p0 = config->pools[0];
  EXPECT_EQ(p0.id, "p0");
  EXPECT_EQ(p0.engine, pool::Engine::native);
  EXPECT_EQ(p0.model.path, "m.gguf");
  EXPECT_EQ(p0.replicas, 1u);
  EXPECT_EQ(p0.slots, 4u);
  EXPECT_EQ(p0.device, "auto");
  EXPECT_EQ(p0.isa, pool::Isa::auto_);
  EXPECT_EQ(p0.speculation, pool::Speculation::off);
  EXPECT_EQ(p0.memory_max_bytes, 0u);
  EXPECT_EQ(config->lease.ttl_ms, 15000u);
  EXPECT_EQ(config->restart.factor, 2u);
  EXPECT_EQ(config->stop.term_grace_ms, 5000u);
}

TEST(Config, OC_CONFIG_6001_every_key_can_be_set) {
  const auto config = pool::load_config(
      "state_dir: s\ngrpc: {listen: 'unix:/a'}\nhttp: {listen: '127.0.0.1:0'}\nlease: {ttl_ms: 300}\n"
      "pools:\n"
      "  - {id: a, engine: llamacpp, model: {name: x}, replicas: 2, slots: 8, ctx: 4096, device: 'vulkan:1', isa: "
      "avx2, speculation: on, memory_max_bytes: 1,\n"
      "     threads: 3, engine_url: 'http://127.0.0.1:9000', engine_key_file: k}\n"
      "  - {id: b, engine: mock, model: {name: y}, mock_script: z, device: "
      "'vulkan:01234567-89ab-cdef-0123-456789abcdef'}\n"
      "restart: {initial_ms: 1, factor: 1, max_ms: 1, jitter_percent: 0, reset_after_ms: 1, breaker_failures: 1,\n"
      "          breaker_open_ms: 1}\n"
      "stop: {term_grace_ms: 0}\nlog: {level: debug}\n");
  ASSERT_TRUE(config.ok()) << config.error().text();
  EXPECT_EQ(config->pools[0].engine_url, "http://127.0.0.1:9000");
  EXPECT_EQ(config->pools[1].mock_script, "z");
  EXPECT_EQ(config->log.level, pool::LogLevel::debug);
}

struct BadCase {
  const char* name;
  std::string yaml;
  const char* path;     // exactly
  const char* message;  // contained
};

void PrintTo(const BadCase& bad, std::ostream* out) { *out << bad.name; }

const std::string orchestrator_yaml = kOrchestrator;
const std::string pools_yaml = kPools;

class BadOrchestratorConfig : public testing::TestWithParam<BadCase> {};
TEST_P(BadOrchestratorConfig, OC_CONFIG_6001_names_the_path_and_the_limit) {
  const auto config = gateway_config::load_config(GetParam().yaml);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().path, GetParam().path) << config.error().text();
  EXPECT_NE(config.error().message.find(GetParam().message), std::string::npos) << config.error().text();
}

const std::vector<BadCase> bad_orchestrator{
    {"empty", "", "", "exactly one YAML document, has 0"},
    {"null_root", "~", "", "must be a mapping, is empty"},
    {"list_root", "[1]", "", "must be a mapping, is a list"},
    {"scalar_root", "hello", "", "must be a mapping, is \"hello\""},
    {"broken_yaml", "state_dir: [", "", "not valid YAML"},
    {"two_documents", orchestrator_yaml + "---\n" + orchestrator_yaml, "", "exactly one YAML document, has 2"},
    {"too_long", orchestrator_yaml + "# " + std::string(1 << 20, 'x'), "", "at most 1048576 bytes"},
    {"unknown_top_key", orchestrator_yaml + "que: {}\n", "que", "unknown key (line 3); known here: state_dir"},
    {"unknown_nested_key", orchestrator_yaml + "queue: {capasity: 1}\n", "queue.capasity", "unknown key"},
    {"repeated_key", orchestrator_yaml + "log: {level: info, level: warn}\n", "log.level", "given twice"},
    {"missing_state_dir", "managers: [{endpoint: 'h:1'}]\n", "state_dir", "is required and missing"},
    {"missing_managers", "state_dir: s\n", "managers", "is required and missing"},
    {"missing_in_item", "state_dir: s\nmanagers: [{}]\n", "managers[0].endpoint", "is required and missing"},
    {"no_managers", "state_dir: s\nmanagers: []\n", "managers", "must have 1..1000 items, has 0"},
    {"managers_no_list", "state_dir: s\nmanagers: {endpoint: 'h:1'}\n", "managers", "must be a list, is a mapping"},
    {"manager_no_mapping", "state_dir: s\nmanagers: ['h:1']\n", "managers[0]", "must be a mapping"},
    {"same_manager_twice", "state_dir: s\nmanagers: [{endpoint: 'h:1'}, {endpoint: 'h:1'}]\n", "managers[1].endpoint",
     "must be unique"},
    {"endpoint_port_zero", "state_dir: s\nmanagers: [{endpoint: 'h:0'}]\n", "managers[0].endpoint", "port 1..65535"},
    {"state_dir_a_number", "state_dir: 5\nmanagers: [{endpoint: 'h:1'}]\n", "state_dir", "must be a string, is \"5\""},
    {"state_dir_empty", "state_dir: ''\nmanagers: [{endpoint: 'h:1'}]\n", "state_dir", "1 to 4096 bytes"},
    {"section_null", orchestrator_yaml + "queue:\n", "queue", "must be a mapping, is empty"},
    {"watchdog_too_short", orchestrator_yaml + "watchdog: {idle_ms: 9}\n", "watchdog.idle_ms", "10..86400000"},
    {"int_is_word", orchestrator_yaml + "queue: {capacity: many}\n", "queue.capacity",
     "must be an integer 1..1000000, is \"many\""},
    {"int_is_quoted", orchestrator_yaml + "queue: {capacity: '5'}\n", "queue.capacity",
     "must be an integer 1..1000000"},
    {"int_is_float", orchestrator_yaml + "queue: {capacity: 1.5}\n", "queue.capacity", "must be an integer"},
    {"int_is_negative", orchestrator_yaml + "queue: {capacity: -1}\n", "queue.capacity",
     "must be an integer 1..1000000, is \"-1\""},
    {"int_is_octal", orchestrator_yaml + "queue: {capacity: 017}\n", "queue.capacity", "must be an integer"},
    {"int_too_small", orchestrator_yaml + "queue: {capacity: 0}\n", "queue.capacity", "1..1000000, is \"0\""},
    {"int_too_large", orchestrator_yaml + "queue: {capacity: 1000001}\n", "queue.capacity",
     "1..1000000, is \"1000001\""},
    {"int_overflows_64_bits", orchestrator_yaml + "queue: {capacity: 99999999999999999999999}\n", "queue.capacity",
     "1..1000000"},
    {"int_is_list", orchestrator_yaml + "queue: {capacity: [1]}\n", "queue.capacity", "is a list"},
    {"bad_policy", orchestrator_yaml + "queue: {batch_full_policy: drop}\n", "queue.batch_full_policy",
     "reject, drop-lru, shed-low-priority"},
    {"bad_level", orchestrator_yaml + "log: {level: {a: 1}}\n", "log.level", "one of debug, info, warn, error"},
    {"listen_without_port", orchestrator_yaml + "http: {listen: 127.0.0.1}\n", "http.listen", "ADDRESS:PORT"},
    {"listen_bad_port", orchestrator_yaml + "http: {listen: '127.0.0.1:65536'}\n", "http.listen", "port 0..65535"},
    {"listen_bad_address", orchestrator_yaml + "http: {listen: '127.0.0.256:1'}\n", "http.listen", "ADDRESS:PORT"},
    {"listen_host_name", orchestrator_yaml + "http: {listen: 'localhost:1'}\n", "http.listen", "ADDRESS:PORT"},
    {"listen_long_socket", orchestrator_yaml + "http: {listen: 'unix:/" + std::string(107, 'a') + "'}\n", "http.listen",
     "at most 107 bytes"},
    {"open_http_without_keys", orchestrator_yaml + "http: {listen: '0.0.0.0:8080'}\n", "http.listen",
     "while auth.key_files and tenants[].key_files are empty"},
    {"open_grpc_without_keys", orchestrator_yaml + "grpc: {listen: '[::]:8081'}\n", "grpc.listen",
     "while auth.key_files and tenants[].key_files are empty"},
    {"key_file_a_flag", orchestrator_yaml + "auth: {key_files: [true]}\n", "auth.key_files[0]", "must be a string"},
    {"key_files_a_string", orchestrator_yaml + "auth: {key_files: k}\n", "auth.key_files", "must be a list"},
};
INSTANTIATE_TEST_SUITE_P(Table, BadOrchestratorConfig, testing::ValuesIn(bad_orchestrator),
                         [](const auto& info) { return std::string(info.param.name); });

class BadPoolConfig : public testing::TestWithParam<BadCase> {};
TEST_P(BadPoolConfig, OC_CONFIG_6001_names_the_path_and_the_limit) {
  const auto config = pool::load_config(GetParam().yaml);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().path, GetParam().path) << config.error().text();
  EXPECT_NE(config.error().message.find(GetParam().message), std::string::npos) << config.error().text();
}

std::string one_pool(const std::string& keys) { return "state_dir: s\npools: [{" + keys + "}]\n"; }
const std::string good_pool = "id: a, engine: native, model: {name: m, path: f}";

const std::vector<BadCase> bad_pool{
    {"no_pools", "state_dir: s\npools: []\n", "pools", "must have 1..64 items"},
    {"missing_engine", one_pool("id: a, model: {name: m}"), "pools[0].engine", "is required and missing"},
    {"missing_model", one_pool("id: a, engine: mock"), "pools[0].model.name", "is required and missing"},
    {"unknown_engine", one_pool("id: a, engine: vllm, model: {name: m}"), "pools[0].engine", "native, llamacpp, mock"},
    {"native_without_path", one_pool("id: a, engine: native, model: {name: m}"), "pools[0].model.path",
     "required when engine is native"},
    {"llamacpp_without_url", one_pool("id: a, engine: llamacpp, model: {name: m}"), "pools[0].engine_url",
     "required when engine is llamacpp"},
    {"bad_id", one_pool("id: a b, engine: mock, model: {name: m}"), "pools[0].id", "letters, digits"},
    {"bad_digest", one_pool("id: a, engine: mock, model: {name: m, digest: 'sha256:12'}"), "pools[0].model.digest",
     "64 lower-case hex"},
    {"bad_url", one_pool("id: a, engine: llamacpp, model: {name: m}, engine_url: 'ftp://h'"), "pools[0].engine_url",
     "http://"},
    {"url_with_space", one_pool("id: a, engine: llamacpp, model: {name: m}, engine_url: 'http://h /'"),
     "pools[0].engine_url", "http://"},
    {"bad_device", one_pool(good_pool + ", device: gpu"), "pools[0].device", "vulkan:INDEX (0..255)"},
    {"bad_device_index", one_pool(good_pool + ", device: 'vulkan:999'"), "pools[0].device", "vulkan:INDEX (0..255)"},
    {"bad_isa", one_pool(good_pool + ", isa: sse"), "pools[0].isa", "auto, scalar, avx2, avx512vnni"},
    {"slots_zero", one_pool(good_pool + ", slots: 0"), "pools[0].slots", "1..64"},
    {"speculation_a_flag", one_pool(good_pool + ", speculation: true"), "pools[0].speculation",
     "must be one of on, off, is \"true\""},
    {"memory_negative", one_pool(good_pool + ", memory_max_bytes: -1"), "pools[0].memory_max_bytes",
     "must be an integer 0..1125899906842624, is \"-1\""},
    {"memory_a_word", one_pool(good_pool + ", memory_max_bytes: 4GiB"), "pools[0].memory_max_bytes",
     "must be an integer"},
    {"memory_beyond_a_pebibyte", one_pool(good_pool + ", memory_max_bytes: 1125899906842625"),
     "pools[0].memory_max_bytes", "0..1125899906842624"},
    {"unknown_key", one_pool(good_pool + ", gpu: 1"), "pools[0].gpu", "unknown key"},
    {"two_of_one_id", pools_yaml + "  - {id: p0, engine: mock, model: {name: m}}\n", "pools[1].id", "must be unique"},
    {"open_admin", pools_yaml + "http: {listen: '0.0.0.0:1'}\n", "http.listen", "must be a loopback address"},
    {"open_control", pools_yaml + "grpc: {listen: '10.0.0.1:1'}\n", "grpc.listen", "must be a loopback address"},
    {"delay_above_max", pools_yaml + "restart: {initial_ms: 10, max_ms: 5}\n", "restart.initial_ms",
     "at most restart.max_ms (5), is 10"},
    {"lease_too_short", pools_yaml + "lease: {ttl_ms: 299}\n", "lease.ttl_ms", "300..600000"},
};
INSTANTIATE_TEST_SUITE_P(Table, BadPoolConfig, testing::ValuesIn(bad_pool),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Config, an_open_address_is_accepted_with_a_key_file) {
  const auto config =
      gateway_config::load_config(orchestrator_yaml + "http: {listen: '0.0.0.0:8080'}\nauth: {key_files: [k]}\n");
  EXPECT_TRUE(config.ok()) << config.error().text();
}

TEST(Config, OC_CONFIG_6030_and_with_a_key_file_of_a_tenant) {
  const std::string open = orchestrator_yaml + "http: {listen: '0.0.0.0:8080'}\ngrpc: {listen: '0.0.0.0:8081'}\n";
  const auto keyed = gateway_config::load_config(open + "tenants: [{name: a}, {name: b, key_files: [k]}]\n");
  EXPECT_TRUE(keyed.ok()) << keyed.error().text();
  const auto keyless = gateway_config::load_config(open + "tenants: [{name: a}, {name: b}]\n");
  ASSERT_FALSE(keyless.ok());
  EXPECT_NE(keyless.error().text().find("http.listen"), std::string::npos) << keyless.error().text();
}

TEST(Config, deep_nesting_is_refused_not_followed) {
  std::string deep(20000, '[');
  EXPECT_FALSE(gateway_config::load_config(deep).ok());
}

}  // namespace
}  // namespace orch
