#include "admin/status_assets.hpp"

#include "base/base64.hpp"
#include "oci/digest.hpp"

namespace sluice::admin {
namespace {

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--ink:#1f2933;--soft:#5c6873;--line:#dde3e8;--card:#fff;--page:#f4f6f8;--good:#1a7f4b;
--bad:#b3261e;--bar:#2f6fb5;--other:#b06a00}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ee;--soft:#97a3af;--line:#333d47;--card:#1b2229;--page:#12171c;
--good:#4fc38a;--bad:#f2857d;--bar:#5b9bdc;--other:#e0a44a}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:68rem;margin:1.5rem auto;
padding:0 1rem;overflow-wrap:break-word}
h1{font-size:1.5rem;margin:0}h2{font-size:1rem;margin:1.8rem 0 .5rem}
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--other)}
.top{display:flex;flex-wrap:wrap;align-items:baseline;gap:.3rem 1rem}
.top section{display:contents}#live{margin-left:auto}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.8rem;margin-top:1.2rem}
.card,.box{background:var(--card);border:1px solid var(--line);border-radius:.5rem}
.card{padding:.8rem 1rem;display:flex;flex-direction:column;font-size:.9rem}
.card b{font-size:1.7rem;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums}
.card .plot,.card .bar{margin:.5rem 0}.card .note{margin-top:auto}
svg{display:block}.plot{width:100%;height:3rem}
.bar{width:100%;height:.5rem;border-radius:.25rem;background:var(--line)}.bar rect{fill:var(--bar)}
.grid{fill:none;stroke:var(--line);vector-effect:non-scaling-stroke}
.area{fill:var(--bar);opacity:.18}.line{fill:none;stroke:var(--bar);stroke-width:1.5;vector-effect:non-scaling-stroke}
.bars{fill:var(--bar)}.other{fill:var(--other)}
.key{color:var(--bar)}.key2{color:var(--other)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0 .8rem}
.box{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{padding:.35rem .8rem;text-align:left;font-weight:400;vertical-align:top}thead th{color:var(--soft);font-size:.85rem}
tbody tr td{border-top:1px solid var(--line)}.plain tbody tr:first-child td{border-top:0}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.name{overflow-wrap:anywhere;min-width:9rem}code{white-space:nowrap}
td .bar{min-width:6rem;max-width:18rem;margin-top:.3rem}
ul{list-style:none;margin:0;padding:.3rem 0}li{padding:.25rem .8rem;overflow-wrap:anywhere}.alerts{padding-left:0}.alerts li{padding:.1rem 0}
p.box{padding:.6rem .8rem;margin:0;font-size:.9rem}
a{color:var(--bar)}code{font-size:.9em}
@media(max-width:40rem){body{margin:1rem auto}.w{display:none}td,th{padding:.35rem .45rem}th.n{white-space:normal}
td .bar{min-width:4rem}#live{margin-left:0}}
)";

// A hidden page closes its stream: listeners are limited. Browsers ask again by themselves after a break, but not
// after a refusal.
constexpr std::string_view kScript = R"(
"use strict";
(() => {
  const live = document.getElementById("live");
  let source = null, timer = 0;
  const stop = () => { clearTimeout(timer); if (source) source.close(); source = null; };
  const start = () => {
    stop();
    source = new EventSource("events");
    source.addEventListener("parts", (event) => {
      for (const [id, html] of Object.entries(JSON.parse(event.data))) {
        const part = document.getElementById(id);
        if (part) part.innerHTML = html;
      }
      live.textContent = "live"; live.className = "good";
    });
    source.onerror = () => {
      const refused = source.readyState === EventSource.CLOSED;
      live.textContent = refused ? "not live: the server refused the stream (too many open pages?); trying again"
        : "no connection; trying again";
      live.className = "bad";
      if (refused) { stop(); timer = setTimeout(start, 30000); }
    };
  };
  const follow = () => { if (document.hidden) stop(); else start(); };
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", stop);
  follow();
})();
)";

// As CSP level 3 names inline text.
std::string source_of(std::string_view text) {
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, text);
  const auto* raw = reinterpret_cast<const char*>(digest.raw().data());
  return "'sha256-" + encode_base64({raw, digest.raw().size()}) + "'";
}

}  // namespace

std::string_view status_style() noexcept { return kStyle; }

std::string_view status_script() noexcept { return kScript; }

const std::string& status_policy() {
  static const std::string policy = "default-src 'none'; style-src " + source_of(kStyle) + "; script-src " +
                                    source_of(kScript) +
                                    "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                                    "frame-ancestors 'none'";
  return policy;
}

}  // namespace sluice::admin
