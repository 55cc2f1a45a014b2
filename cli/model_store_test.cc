#include "cli/model_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/testing/temp_folder.h"

namespace orch::cli {
namespace {

class ModelStore : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = dir_ + "/source.bin";
    std::ofstream(source_, std::ios::binary) << "GGUF and more";
  }
  Result<ModelFile, std::string> pull(const PullRequest& request) {
    return pull_model(dir_ + "/models", request,
                      [this](std::uint64_t done, std::optional<std::uint64_t>) { done_ = done; });
  }
  // Nothing half done: a refused pull leaves the folder as it was.
  bool folder_is_empty() const {
    return !std::filesystem::exists(dir_ + "/models") || std::filesystem::is_empty(dir_ + "/models");
  }

  const orch::testing::TempFolder folder_;
  const std::string dir_ = folder_.path();
  std::string source_;
  std::uint64_t done_ = 0;
};

constexpr char kDigest[] = "sha256:cabc1a68de0f4db23a61b8bbc15dce9f8ba05b52ad3ce5efb4dd52ee36b01d0e";

TEST_F(ModelStore, keeps_the_file_and_its_digest) {
  const auto model = pull({.source = source_, .name = "tiny", .digest = ""});
  ASSERT_TRUE(model.ok()) << model.error();
  EXPECT_EQ(done_, 13U);
  const auto listed = list_models(dir_ + "/models");
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_EQ(listed[0].name, "tiny");
  EXPECT_EQ(listed[0].bytes, 13U);
  EXPECT_EQ(listed[0].digest, model->digest);
  EXPECT_EQ(digest_beside(listed[0].path), model->digest);
  const auto again = pull({.source = source_, .name = "tiny", .digest = model->digest});
  EXPECT_TRUE(again.ok()) << again.error();
}

TEST_F(ModelStore, another_digest_is_refused_and_leaves_nothing) {
  const auto model = pull({.source = source_, .name = "tiny", .digest = kDigest});
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.error().find("expected sha256:cabc"), std::string::npos) << model.error();
  EXPECT_TRUE(folder_is_empty());
}

TEST_F(ModelStore, what_is_no_model_is_refused) {
  std::ofstream(source_, std::ios::binary | std::ios::trunc) << "<html>not found</html>";
  const auto model = pull({.source = source_, .name = "tiny", .digest = ""});
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.error().find("GGUF"), std::string::npos) << model.error();
  EXPECT_TRUE(folder_is_empty());
}

TEST_F(ModelStore, each_wrong_field_is_named) {
  const auto refusal = [this](const PullRequest& request) {
    const auto model = pull(request);
    return model.ok() ? "accepted" : model.error();
  };
  EXPECT_EQ(refusal({source_, "../x", ""}).substr(0, 4), "name");
  EXPECT_EQ(refusal({source_, ".x", ""}).substr(0, 4), "name");
  EXPECT_EQ(refusal({source_, std::string(129, 'x'), ""}).substr(0, 4), "name");
  EXPECT_EQ(refusal({source_, "x", "sha256:12"}).substr(0, 6), "digest");
  EXPECT_EQ(refusal({"https://localhost/x.gguf", "x", ""}).substr(0, 6), "digest");
  EXPECT_EQ(refusal({"http://localhost/x.gguf", "x", kDigest}).substr(0, 6), "source");
  EXPECT_NE(refusal({dir_ + "/absent", "x", ""}).find("cannot read"), std::string::npos);
  EXPECT_TRUE(folder_is_empty());
}

}  // namespace
}  // namespace orch::cli
