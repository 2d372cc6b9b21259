-- Read by /boot/lua/loader.lua once loader.conf is known. gptboot has chosen the slot and loaded this loader from it:
-- the same slot is to be the root. Settings of the appliance's configuration lie on the data partition of the same
-- disk, where either slot finds them; one that is not there yet, or broken, changes nothing.

local config = require("config")

local SLOTS = { ["3"] = "slot-a", ["4"] = "slot-b" }
local DATA = "5"

local disk, partition = (loader.getenv("currdev") or ""):match("^(disk%d+)p(%d+):?$")

if disk ~= nil then
	pcall(config.processFile, disk .. "p" .. DATA .. ":/aifw/loader.conf", true)
	local slot = SLOTS[partition]
	if slot ~= nil then
		loader.setenv("vfs.root.mountfrom", "ufs:/dev/gpt/" .. slot)
		loader.setenv("vfs.root.mountfrom.options", "ro")
	end
end
