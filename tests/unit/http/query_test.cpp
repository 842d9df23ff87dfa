#include <string_view>

#include <catch2/catch.hpp>

#include "http/query.hpp"

using namespace sluice::http;
using namespace std::string_view_literals;

TEST_CASE("Query: the first parameter of that name, decoded; what is broken is empty", "[http]") {
  CHECK(query_parameter("ns=docker.io", "ns") == "docker.io");
  CHECK(query_parameter("a=1&ns=quay.io&b=2", "ns") == "quay.io");
  CHECK(query_parameter("ns=a&ns=b", "ns") == "a");
  CHECK(query_parameter("a=1&name=ghcr.io%2Fx%3A1&b", "name") == "ghcr.io/x:1");
  CHECK_FALSE(find_query_parameter("a=1", "ns").has_value());
  CHECK(find_query_parameter("ns=%zz", "ns") == "");
  CHECK(query_parameter("ns=localhost%3A5000", "ns") == "localhost:5000");
  CHECK(query_parameter("ns=a%2fb%2Fc", "ns") == "a/b/c");
  CHECK(query_parameter("ns=a=b", "ns") == "a=b");
  CHECK(query_parameter("ns=%00", "ns") == "\0"sv);
  for (const std::string_view query :
       {"", "ns", "ns=", "&", "&&&", "NS=a", "xns=a", "nsx=a", "=ns", "n%73=a", "ns=%", "ns=%2", "ns=%zz", "ns=ok%4"}) {
    INFO(query);
    CHECK(query_parameter(query, "ns").empty());
  }
}
