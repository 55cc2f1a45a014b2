#include "common/runtime/http_connection.h"

namespace orch::runtime {

ServerExchange::ServerExchange(std::shared_ptr<HttpConnection> connection, HttpRequest request)
    : connection_(std::move(connection)), request_(std::move(request)) {}

ServerExchange::~ServerExchange() {
  if (connection_ == nullptr) return;
  // A handler that forgot to answer: the client must not wait for ever.
  const std::shared_ptr<HttpConnection> connection = std::move(connection_);
  if (connection->current_ != this) return;
  connection->current_ = nullptr;
  if (connection->streaming_) {
    connection->close();
    return;
  }
  connection->send_reply(request_,
                         connection->shared_.hooks.on_error({500, "the request was not answered", request_.path, ""}));
}

void ServerExchange::reply(HttpResponse response) {
  if (connection_ == nullptr) return;
  connection_->send_reply(request_, std::move(response));
}
void ServerExchange::begin(HttpResponse head) {
  if (connection_ != nullptr) connection_->send_head(request_, std::move(head));
}
void ServerExchange::write(std::string_view bytes) {
  if (connection_ != nullptr) connection_->send_bytes(bytes);
}
void ServerExchange::finish() {
  if (connection_ != nullptr) connection_->send_end();
}
std::size_t ServerExchange::pending_bytes() const { return connection_ == nullptr ? 0 : connection_->pending_bytes(); }
void ServerExchange::on_drained(std::function<void()> callback) {
  if (connection_ != nullptr) connection_->on_drained(std::move(callback));
}
void ServerExchange::set_heartbeat(Duration interval, std::string bytes) {
  if (connection_ != nullptr) connection_->set_heartbeat(interval, std::move(bytes));
}
void ServerExchange::on_overdue(Duration after, std::function<void()> callback) {
  overdue_at_ = callback ? now() + after : Instant::never();
  on_overdue_ = std::move(callback);
}
void ServerExchange::check_overdue(Instant at) {
  if (at < overdue_at_) return;
  overdue_at_ = Instant::never();
  const std::function<void()> callback = std::exchange(on_overdue_, nullptr);
  callback();
}
void ServerExchange::abort() {
  on_disconnect_ = nullptr;
  if (connection_ != nullptr) connection_->close();
}
void ServerExchange::detach(bool disconnected) {
  const std::shared_ptr<HttpConnection> last = std::move(connection_);
  connection_ = nullptr;
  const std::function<void()> callback = std::move(on_disconnect_);
  on_disconnect_ = nullptr;
  on_overdue(Duration{}, nullptr);
  if (disconnected && callback) callback();
}

}  // namespace orch::runtime
