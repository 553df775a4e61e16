-- A POST of 10 KiB; wrk formats it once.
wrk.method = "POST"
wrk.body = string.rep("x", 10 * 1024)
wrk.headers["Content-Type"] = "application/octet-stream"
