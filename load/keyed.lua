-- POST /orders for wrk, with an Idempotency-Key of its own on every second request, or on none where KEYS=none.
-- BODIES names a file with a body on each line. (oha sends the same headers with every request.)
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do
    bodies[#bodies + 1] = line
end
local keyed = os.getenv("KEYS") ~= "none"

local threads = 0
function setup(thread)
    threads = threads + 1
    thread:set("number", threads)
end

local sent, run = 0, ""
function init()
    math.randomseed(os.time() * 100 + number)
    run = os.time() .. "-" .. number .. "-" .. math.random(1000000000) .. "-"
    sent = math.random(#bodies)
end

function request()
    sent = sent + 1
    local headers = { ["Content-Type"] = "application/json" }
    if keyed and sent % 2 == 0 then
        headers["Idempotency-Key"] = run .. sent
    end
    return wrk.format("POST", "/orders", headers, bodies[sent % #bodies + 1])
end
