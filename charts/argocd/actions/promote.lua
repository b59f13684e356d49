-- Names what it is about, so that it cannot act on anything that comes later; the time makes it a
-- new command each time.
local os = require("os")
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["signalcanary.dev/promote"] =
  obj.status.subject .. " in Argo CD at " .. os.date("!%Y-%m-%dT%XZ")
return obj
