-- Ninety-nine requests for "/", then one for "/sleep", and so on; both are formatted once.
local fast, slow
local count = 0

function init(arguments)
   fast = wrk.format("GET", "/")
   slow = wrk.format("GET", "/sleep")
end

function request()
   count = count + 1
   if count % 100 == 0 then
      return slow
   end
   return fast
end
