-- What each of wrk's connections sends, and what counts as an answer: a call has an id of its own, and what comes
-- back is the result of a call that waits for one. The last line of the output is the figures as JSON.
local head, tail = os.getenv("BENCH_HEAD"), os.getenv("BENCH_TAIL")
local number, waiting = 0, {}
local threads = {}
failures, first = 0, ""

function setup(thread)
  table.insert(threads, thread)
end

function request()
  number = number + 1
  waiting[number] = true
  local body = '{"jsonrpc":"2.0","id":' .. number .. "," .. tail
  return head .. "\r\ncontent-length: " .. #body .. "\r\n\r\n" .. body
end

function response(status, _, body)
  local id = tonumber(string.match(body, '"id": ?(%d+)'))
  if status == 200 and id and waiting[id] and string.find(body, '"result"', 1, true)
      and not string.find(body, '"isError": ?true') then
    waiting[id] = nil
    return
  end
  failures = failures + 1
  if first == "" then
    first = status .. " " .. string.gsub(string.sub(body, 1, 200), '[^%w %.,:;_-]', "?")
  end
end

function done(summary, latency, _)
  local failed, why = 0, ""
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("failures")
    why = why .. thread:get("first")
  end
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  if lost > 0 then
    why = why .. " connections lost: " .. lost
  end
  io.write(string.format(
    '\n{"calls": %d, "calls_per_s": %.3f, "p50_ms": %.4f, "p99_ms": %.4f, "failures": %d, "first_failure": "%s"}\n',
    summary.requests, summary.requests * 1e6 / summary.duration, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, failed + lost, why))
end
