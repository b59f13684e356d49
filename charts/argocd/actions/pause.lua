-- Paused for as long as the annotation is there.
local os = require("os")
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["signalcanary.dev/pause"] = "in Argo CD at " .. os.date("!%Y-%m-%dT%XZ")
return obj
