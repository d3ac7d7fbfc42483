-- Sends the records of a file, one after the other; each is a complete HTTP request.
-- Arguments: the file, the length of a record, the mean pause of a connection in milliseconds.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  file = assert(io.open(args[1], "rb"))
  length = tonumber(args[2])
  local pause = tonumber(args[3])
  ran_out = 0
  if pause > 0 then
    math.randomseed(1)
    function delay() return math.random(0, 2 * pause) end
  end
end

function request()
  local record = file:read(length)
  if record == nil then
    ran_out = 1
    wrk.thread:stop()
    return last
  end
  last = record
  return record
end

function done(summary, latency, requests)
  local errors = summary.errors
  local out = 0
  for _, thread in ipairs(threads) do out = out + thread:get("ran_out") end
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,' ..
    '"refused":%d,"broken":%d,"ran_out":%s}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    out > 0 and "true" or "false"))
end
