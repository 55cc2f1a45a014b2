#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>

#include "worker/shell/worker_server_fixture.h"

namespace orch::worker {
namespace {

TEST_F(WorkerServerTest, a_socket_in_use_or_open_to_others_is_a_typed_start_failure) {
  WorkerServer::Options options;
  options.listen = "unix:" + folder_.path() + "/w/worker.sock";
  const auto twice = WorkerServer::start(engine_, options);
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().exit_code, kExitAddress);
  EXPECT_NE(twice.error().message.find("in use"), std::string::npos);

  const std::string open_folder = folder_.path() + "/open";
  std::filesystem::create_directory(open_folder);
  ASSERT_EQ(::chmod(open_folder.c_str(), 0755), 0);
  options.listen = "unix:" + open_folder + "/worker.sock";
  const auto exposed = WorkerServer::start(engine_, options);
  ASSERT_FALSE(exposed.ok());
  EXPECT_NE(exposed.error().message.find("0700"), std::string::npos);

  options.listen = "0.0.0.0:0";
  const auto everywhere = WorkerServer::start(engine_, options);
  ASSERT_FALSE(everywhere.ok());
  EXPECT_EQ(everywhere.error().exit_code, kExitUsage);
}

// gRPC's own listener, which asks nobody who connects, would leave the mode to the umask.
TEST_F(WorkerServerTest, OC_LEASE_L2_the_socket_is_the_one_that_judges_its_peers) {
  struct stat info{};
  ASSERT_EQ(::stat((folder_.path() + "/w/worker.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(WorkerServerTest, a_port_in_use_is_a_typed_start_failure_and_port_0_tells_the_real_one) {
  WorkerServer::Options options;
  options.listen = "127.0.0.1:0";
  const auto first = WorkerServer::start(engine_, options);
  ASSERT_TRUE(first.ok()) << first.error().message;
  EXPECT_FALSE(first.value()->address().ends_with(":0"));
  options.listen = first.value()->address();
  const auto second = WorkerServer::start(engine_, options);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().exit_code, kExitAddress);
}

TEST_F(WorkerServerTest, a_dead_socket_of_an_earlier_life_is_replaced) {
  const std::string path = folder_.path() + "/w/worker.sock";
  server_.reset();
  std::filesystem::remove(path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(fd);  // bound, never listened: what a killed process leaves behind
  start({});
}

TEST(WorkerServerWithoutLifeline, accepts_no_control_and_no_dispatch) {
  TempFolder folder;
  ManualEngine engine;
  WorkerServer::Options options;
  options.listen = "unix:" + folder.path() + "/w/worker.sock";
  auto server = WorkerServer::start(engine, options);
  ASSERT_TRUE(server.ok()) << server.error().message;
  const auto stub = v1::Worker::NewStub(runtime::make_channel(server.value()->address()));
  Manager manager(*stub, "");
  EXPECT_EQ(manager.end().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  Line line(*stub);
  EXPECT_EQ(Reader(line, request(1)).terminal(), "STALE_LEASE");
}

TEST(WorkerServerLifeline, L8_a_first_line_that_is_no_secret_is_a_start_failure) {
  for (const std::string line :
       {"", "short\n", "zz0102030405060708090a0b0c0d0e0f\n", "000102030405060708090a0b0c0d0e0f00\n"}) {
    TempFolder folder;
    ManualEngine engine;
    Pipe pipe;
    pipe.say(line);
    pipe.close_write();
    WorkerServer::Options options;
    options.listen = "unix:" + folder.path() + "/w/worker.sock";
    options.lifeline_fd = pipe.read_end;
    EXPECT_FALSE(WorkerServer::start(engine, options).ok()) << line;
    ::close(pipe.read_end);
  }
}

}  // namespace
}  // namespace orch::worker
