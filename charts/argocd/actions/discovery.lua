-- Which actions there are, and which of them would be done now. The operator has the last word.
local status = obj.status or {}
local phase = status.phase
local is = {}
for _, condition in ipairs(status.conditions or {}) do
  is[condition.type] = condition.status == "True"
end
local annotations = obj.metadata.annotations or {}
local wants_pause = annotations["signalcanary.dev/pause"] ~= nil
local judged = phase == "Warming" or phase == "Progressing" or phase == "Promoting"
local running = judged or phase == "Pending" or phase == "Verifying" or phase == "Waiting"
local named = status.subject ~= nil

local actions = {}
actions["pause"] = {["disabled"] = not ((running or phase == "Soaking") and not wants_pause)}
actions["resume"] = {["disabled"] = not wants_pause}
actions["approve"] = {["disabled"] = not (named and is.ApprovalNeeded)}
actions["skip"] = {["disabled"] = not (named and phase == "Progressing" and not is.Paused)}
actions["promote"] = {["disabled"] = not (named and judged and not is.Paused)}
actions["abort"] = {["disabled"] = not (named and running)}
actions["retry"] = {["disabled"] = not (named and phase == "RolledBack")}
return actions
