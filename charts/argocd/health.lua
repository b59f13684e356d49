-- Health of a SignalCanary. Argo CD opens no string library: equality and concatenation only.
local hs = {status = "Progressing", message = "waiting for the operator to look at it"}
local status = obj.status
if status == nil or status.phase == nil then
  return hs
end
if obj.metadata.generation ~= nil and status.observedGeneration ~= obj.metadata.generation then
  hs.message = "waiting for the operator to see the change of the spec"
  return hs
end
hs.message = status.message or status.phase
local is = {}
local why = ""
if status.conditions ~= nil then
  for _, condition in ipairs(status.conditions) do
    is[condition.type] = condition.status == "True"
    if condition.type == "Degraded" then
      why = condition.reason
    end
  end
end
if status.phase == "Succeeded" then
  hs.status = "Healthy"
elseif status.phase == "RollingBack" or status.phase == "VerifyingRollback" or status.phase == "RolledBack" then
  hs.status = "Degraded"
elseif is.Paused or is.ApprovalNeeded or is.Waiting then
  hs.status = "Suspended"
elseif status.next ~= nil then
  hs.message = hs.message .. "; next: " .. status.next
end
-- The command line's word for it. Argo CD's own is for what was decided: a breach may pass.
if is.Degraded and hs.status ~= "Degraded" then
  hs.message = "Degraded (" .. why .. "), not taken back: " .. hs.message
end
return hs
