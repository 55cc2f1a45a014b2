// Links to a task, and where one that names another gateway leads.
#include "orchestratord/shell/task_home.h"

#include <gtest/gtest.h>

namespace orch::gateway {
namespace {

const OrchId kSelf{{1, 1}};
const OrchId kOther{{2, 2}};
const JobId kTask{{7, 7}};

runtime::HttpRequest request_of(const std::string& target) {
  runtime::HttpRequest request;
  request.method = "GET";
  const std::size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark != std::string::npos) request.query = target.substr(mark + 1);
  return request;
}

struct Home {
  Home() { others.told(ManagerId{{4, 4}}, {{kOther, "https://other:8443"}}); }
  std::optional<runtime::HttpResponse> ask(const std::string& target) const {
    return home.elsewhere(request_of(target));
  }
  std::string route(const char* name) const { return "/v1/tasks/" + kTask.to_string() + "/" + name; }
  OtherGateways others;
  TaskHome home{kSelf, "https://self:8443", others};
};

std::string location(const std::optional<runtime::HttpResponse>& response) {
  if (!response || response->status != 307) return "none";
  for (const runtime::HttpHeader& header : response->headers) {
    if (header.name == "Location") return header.value;
  }
  return "missing";
}

TEST(TaskHome, OC_JOB_1016_links_name_the_gateway) {
  const Home with;
  const std::string own = "?gateway=" + kSelf.to_string();
  EXPECT_EQ(with.home.links(kTask), "{\"stream\":\"" + with.route("stream") + own + "\",\"cancel\":\"" +
                                        with.route("cancel") + own + "\",\"explain\":\"" + with.route("explain") + own +
                                        "\"}");
}

TEST(TaskHome, OC_JOB_1016_a_task_of_another_gateway_is_there) {
  const Home with;
  for (const char* name : {"stream", "cancel", "explain"}) {
    const std::string target = with.route(name) + "?a=b&gateway=" + kOther.to_string();
    EXPECT_EQ(location(with.ask(target)), "https://other:8443" + target);
  }
}

TEST(TaskHome, OC_JOB_1016_an_own_one_and_one_without_a_gateway_are_looked_up_here) {
  const Home with;
  EXPECT_FALSE(with.ask(with.route("stream") + "?gateway=" + kSelf.to_string()));
  EXPECT_FALSE(with.ask(with.route("stream")));
  EXPECT_FALSE(with.ask("/v1/tasks?gateway=" + kOther.to_string()));
  EXPECT_FALSE(with.ask("/v1/models?gateway=" + kOther.to_string()));
  EXPECT_FALSE(with.ask("/v1/tasks/x/stream?gateway=" + kOther.to_string()));
}

TEST(TaskHome, OC_JOB_1016_an_unknown_gateway_and_no_id_are_told_apart) {
  const Home with;
  const auto unknown = with.ask(with.route("stream") + "?gateway=" + OrchId{{3, 3}}.to_string());
  ASSERT_TRUE(unknown);
  EXPECT_EQ(unknown->status, 404);
  EXPECT_NE(unknown->body.find(OrchId{{3, 3}}.to_string()), std::string::npos);
  const auto broken = with.ask(with.route("stream") + "?gateway=x");
  ASSERT_TRUE(broken);
  EXPECT_EQ(broken->status, 400);
}

// Both stand behind a load balancer and name that: a 307 would come back here, or to the other one, for ever.
TEST(TaskHome, OC_JOB_1016_an_address_that_is_also_the_own_one_is_no_answer) {
  Home with;
  with.others.told(ManagerId{{4, 4}}, {{kOther, "https://self:8443"}});
  const auto answer = with.ask(with.route("stream") + "?gateway=" + kOther.to_string());
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 404);
  EXPECT_NE(answer->body.find(kOther.to_string()), std::string::npos);
  EXPECT_NE(answer->body.find("https://self:8443"), std::string::npos);
}

}  // namespace
}  // namespace orch::gateway
