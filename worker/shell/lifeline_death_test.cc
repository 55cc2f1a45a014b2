// A process of its own, because the end of the lifeline ends the process: with arguments it is the worker, without it
// spawns itself. gRPC does not survive a fork, an exec it does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "common/runtime/grpc_setup.h"
#include "common/testing/temp_folder.h"
#include "worker/shell/manual_engine.h"
#include "worker/shell/worker_server.h"

namespace {

int run_worker(const char* listen, int lifeline) {
  orch::runtime::prepare_grpc();
  orch::worker::ManualEngine engine;
  engine.on_cancel([](const orch::DispatchId&) {});  // a stuck engine must not hold the process
  orch::worker::WorkerServer::Options options;
  options.listen = listen;
  options.lifeline_fd = lifeline;
  auto server = orch::worker::WorkerServer::start(engine, options);
  if (!server.ok()) return 99;
  std::puts("serving");
  std::fflush(stdout);
  server.value()->wait();
  return 98;
}

TEST(WorkerServerLifeline, L8_the_end_of_the_lifeline_ends_the_process_with_0_within_a_second) {
  const orch::testing::TempFolder folder;
  const std::string listen = "unix:" + folder.path() + "/worker.sock";
  std::array<int, 2> lifeline{};
  std::array<int, 2> output{};
  ASSERT_EQ(::pipe(lifeline.data()), 0);
  ASSERT_EQ(::pipe(output.data()), 0);
  ASSERT_EQ(::fcntl(lifeline[1], F_SETFD, FD_CLOEXEC), 0);
  const std::string fd = std::to_string(lifeline[0]);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(output[1], STDOUT_FILENO);
    ::execl("/proc/self/exe", "worker", listen.c_str(), fd.c_str(), nullptr);
    ::_exit(97);
  }
  ::close(lifeline[0]);
  ::close(output[1]);
  const char secret[] = "000102030405060708090a0b0c0d0e0f\n";
  ASSERT_EQ(::write(lifeline[1], secret, sizeof secret - 1), static_cast<ssize_t>(sizeof secret - 1));
  std::array<char, 64> line{};
  ASSERT_GT(::read(output[0], line.data(), line.size()), 0);
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), 0) << "it runs for as long as the lifeline is open";

  ::close(lifeline[1]);
  pollfd ended{.fd = output[0], .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ended, 1, 1000), 1) << "still running a second later";
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strncmp(argv[1], "unix:", 5) == 0) return run_worker(argv[1], std::atoi(argv[2]));
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
