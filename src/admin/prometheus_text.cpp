#include "admin/prometheus_text.hpp"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace sluice::admin {
namespace {

prometheus::MetricType type_of(metrics::Kind kind) {
  switch (kind) {
    case metrics::Kind::counter: return prometheus::MetricType::Counter;
    case metrics::Kind::gauge: return prometheus::MetricType::Gauge;
    case metrics::Kind::histogram: return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

prometheus::ClientMetric to_prometheus(metrics::Kind kind, const metrics::Sample& sample) {
  prometheus::ClientMetric out;
  out.label.reserve(sample.labels.size());
  for (const auto& [name, value] : sample.labels) {
    prometheus::ClientMetric::Label& label = out.label.emplace_back();
    label.name = name;
    label.value = value;
  }
  switch (kind) {
    case metrics::Kind::counter: out.counter.value = sample.value; break;
    case metrics::Kind::gauge: out.gauge.value = sample.value; break;
    case metrics::Kind::histogram:
      out.histogram.sample_count = sample.histogram.count;
      out.histogram.sample_sum = sample.histogram.sum;
      for (const auto& [bound, count] : sample.histogram.cumulative) {
        prometheus::ClientMetric::Bucket& bucket = out.histogram.bucket.emplace_back();
        bucket.upper_bound = bound;
        bucket.cumulative_count = count;
      }
      break;
  }
  return out;
}

}  // namespace

std::string prometheus_text(const std::vector<metrics::Family>& families) {
  std::vector<prometheus::MetricFamily> converted;
  converted.reserve(families.size());
  for (const metrics::Family& family : families) {
    prometheus::MetricFamily& out = converted.emplace_back();
    out.name = family.name;
    out.help = family.help;
    out.type = type_of(family.kind);
    for (const metrics::Sample& sample : family.samples) out.metric.push_back(to_prometheus(family.kind, sample));
  }
  return prometheus::TextSerializer().Serialize(converted);
}

}  // namespace sluice::admin
