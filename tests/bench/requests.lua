-- What every client of wrk asks for, again and again: one of these operations, on 1,000 rows.
local json = { ["Content-Type"] = "application/json" }

local operations = {
  get = function()
    return wrk.format("GET", "/items/" .. math.random(1000))
  end,
  list = function()
    return wrk.format("GET", "/items/?limit=20")
  end,
  create = function()
    return wrk.format("POST", "/items/", json, '{"title": "Mug", "price": 9.99}')
  end,
  patch = function()
    local body = ('{"price": %d.50}'):format(math.random(1000))
    return wrk.format("PATCH", "/items/" .. math.random(1000), json, body)
  end,
  order = function()
    local lines, first = {}, math.random(1000)
    for n = 0, 2 do
      local id = (first + n * math.random(333)) % 1000 + 1
      lines[n + 1] = ('{"product_id": %d, "quantity": 1}'):format(id)
    end
    local body = '{"user_id": 1, "items": [' .. table.concat(lines, ", ") .. "]}"
    return wrk.format("POST", "/orders/", json, body)
  end,
}

function init(arguments)
  math.randomseed(os.time())
  operation = operations[arguments[1]]
end

function request()
  return operation()
end
